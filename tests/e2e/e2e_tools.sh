# What the end-to-end tests share; sourced by tests/e2e/test_*.sh, which run under CTest's environment
# ($MTTRAIN, $MT_SOURCE_DIR) or by hand with these two set.
#
# E2E_OPTIMIZER='shard = true;' adds to the optimizer of every made job: what holds of the bits holds
# with it, too.
#
# $work is a scratch folder that goes away at the end. A test counts failures with `fail` and its
# companions, and ends with `finish`.

set -u
: "${MTTRAIN:?the mttrain program}" "${MT_SOURCE_DIR:?the source folder}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OPENBLAS_NUM_THREADS=1
unset MTTRAIN_SPOOL

# quick_disk: the scratch folder in memory, where there is room: for thousands of files forced to disk.
quick_disk() {
    local room
    room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    [ ! -w /dev/shm ] || [ "${room:-0}" -lt 1000000 ] || TMPDIR=${TMPDIR:-/dev/shm}
}
[ -z "${E2E_QUICK_DISK-}" ] || quick_disk
work=$(mktemp -d "${TMPDIR:-/tmp}/mttrain-e2e-XXXXXX") || exit 1
vocab=$MT_SOURCE_DIR/jobs/quickstart/vocab.txt
limit_s=${E2E_LIMIT_S:-300} # of one command: longer is a hang
failures=0 checks=0
mounted=

clean_up() {
    [ -z "$mounted" ] || umount "$mounted"
    chmod -R u+w "$work"
    rm -rf "$work"
}
trap clean_up EXIT

ok() {
    checks=$((checks + 1))
    printf '[      OK ] %s\n' "$*"
}

fail() {
    checks=$((checks + 1))
    failures=$((failures + 1))
    printf '[  FAILED ] %s\n' "$*"
}

# equal WHAT EXPECTED ACTUAL
equal() {
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1: expected \"$2\", got \"$3\""; fi
}

# holds WHAT COMMAND...
holds() {
    local what=$1
    shift
    if "$@"; then ok "$what"; else fail "$what"; fi
}

# contains WHAT FILE PATTERN (of grep -E)
contains() {
    if grep -Eq -- "$3" "$2"; then ok "$1"; else
        fail "$1: no \"$3\" in:"
        sed 's/^/    /' "$2" | tail -n 20
    fi
}

finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" -eq 0 ]
    exit
}

# ranks N ARGUMENTS...: mttrain at N ranks; output in $work/out, exit code as the answer.
ranks() {
    local np=$1
    shift
    timeout -k 10 "$limit_s" mpirun -np "$np" "$MTTRAIN" "$@" </dev/null >"$work/out" 2>&1
}

# must N ARGUMENTS...: the same, and anything but 0 is a failure that shows the output.
must() {
    local rc=0
    ranks "$@" || rc=$?
    if [ "$rc" -ne 0 ]; then
        fail "mpirun -np $* ended with $rc:"
        sed 's/^/    /' "$work/out" | tail -n 30
    fi
    return "$rc"
}

# alone ARGUMENTS...: mttrain without mpirun; output as above.
alone() {
    timeout -k 10 "$limit_s" "$MTTRAIN" "$@" </dev/null >"$work/out" 2>&1
}

hash_of() { timeout "$limit_s" "$MTTRAIN" inspect --hash "$1" 2>&1 | tail -n 1; }

# make_corpora DIR: two small labelled tables with dev parts, of the shipped sentences.
make_corpora() {
    local q=$MT_SOURCE_DIR/jobs/quickstart
    mkdir -p "$1"
    head -n 121 "$q/train.tsv" | cut -f 1,2 >"$1/kinds.tsv"
    head -n 31 "$q/dev.tsv" | cut -f 1,2 >"$1/kinds-dev.tsv"
    { head -n 1 "$q/train.tsv" && sed -n 201,280p "$q/train.tsv"; } | cut -f 1,3 >"$1/moods.tsv"
    { head -n 1 "$q/dev.tsv" && sed -n 41,71p "$q/dev.tsv"; } | cut -f 1,3 >"$1/moods-dev.tsv"
}

# make_job FILE RUN_DIR [EPOCHS]: two tasks on two data sets, three phases, a tiny random model.
make_job() {
    cat >"$1" <<END
name = "$(basename "$1" .cfg)"; run_dir = "$2"; seed = 7;
model = { init = "random"; vocab = "$vocab"; max_tokens = 32;
  config = { hidden_size = 32; num_hidden_layers = 2; num_attention_heads = 2;
             intermediate_size = 64; max_position_embeddings = 32; }; };
data = ( { name = "kinds"; train = [ "kinds.tsv" ]; dev = [ "kinds-dev.tsv" ]; text = "sentence"; },
         { name = "moods"; train = [ "moods.tsv" ]; dev = [ "moods-dev.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "kinds"; labels = [ "personal", "fact", "app" ]; },
          { name = "sentiment"; data = "moods"; } );
batch = { sentences = 16; lanes = 8; };
train = { epochs = ${3:-3.0}; eval_every = "1ep"; save_every = "1h"; log_every = "1st"; };
optimizer = { lr = 1e-3; ${E2E_OPTIMIZER:-} };
schedule = "staged";
phases = ( { name = "heads"; until = "0.3run"; train = [ "heads.*" ]; lr = 5e-3; },
           { name = "top"; until = "0.6run"; train = [ "heads.*", "pooler.*", "top(1)" ]; },
           { name = "all"; until = "1.0run"; train = [ "*" ]; layer_decay = 0.95; warmup = "0.1phase"; } );
END
}

# make_preloaded NAME: builds $work/NAME.so of NAME.c beside this file.
make_preloaded() {
    cc -shared -fPIC "$MT_SOURCE_DIR/tests/e2e/$1.c" -o "$work/$1.so" -ldl && return
    echo "skipped: no C compiler"
    exit 77
}

# make_slow: builds $slow, which makes a run last where it is preloaded and told to (slow.c).
make_slow() {
    make_preloaded slow
    slow=$work/slow.so
}

# wait_steps DIR N: until so many steps are told, or the program in $job_pid has ended.
wait_steps() {
    local at
    while kill -0 "$job_pid" 2>/dev/null; do
        at=$(grep -cs '"event":"step"' "$1/metrics.jsonl")
        [ "${at:-0}" -lt "$2" ] || return 0
        sleep 0.01
    done
}
