# What the tests of schedules share; sourced behind e2e_tools.sh.

# make_table FILE FIRST LAST [SOURCE]: rows of the shipped sentences with both label columns.
make_table() {
    local source=${4:-$MT_SOURCE_DIR/jobs/quickstart/train.tsv}
    { head -n 1 "$source" && sed -n "$2,$3p" "$source"; } >"$1"
}

# make_base DIR: a model folder with two heads, trained for a moment so that no tensor is zero.
make_base() {
    make_table table.tsv 2 161
    make_table dev.tsv 2 61 "$MT_SOURCE_DIR/jobs/quickstart/dev.tsv"
    cat >base.cfg <<END
name = "base"; run_dir = "$1"; seed = 3;
model = { init = "random"; vocab = "$vocab"; max_tokens = 32;
  config = { hidden_size = 32; num_hidden_layers = 3; num_attention_heads = 2;
             intermediate_size = 64; max_position_embeddings = 32; }; };
data = ( { name = "both"; train = [ "table.tsv" ]; dev = [ "dev.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "both"; }, { name = "sentiment"; data = "both"; } );
batch = { sentences = 16; lanes = 8; };
train = { epochs = 1.0; };
END
    must 1 base.cfg -q
}

# make_scheduled FILE BASE: the job of most cases; its schedule comes by --schedule.
make_scheduled() {
    cat >"$1" <<END
name = "$(basename "$1" .cfg)"; run_dir = "runs/$(basename "$1" .cfg)"; seed = 7;
model = { init = "$2/model"; max_tokens = 32; };
data = ( { name = "both"; train = [ "table.tsv" ]; dev = [ "dev.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "both"; }, { name = "sentiment"; data = "both"; } );
batch = { sentences = 16; lanes = 8; };
train = { epochs = 3.0; eval_every = "1ep"; save_every = "1h"; log_every = "1st"; best = "mean(dev.accuracy)"; };
END
}

phase_ends() { # DIR: steps at which phases ended
    grep '"action":"end"' "$1/metrics.jsonl" | grep -o '"step":[0-9]*' | cut -d : -f 2
}

phase_end_reasons() { grep '"action":"end"' "$1/metrics.jsonl" | grep -o '"reason":"[^"]*"' | cut -d '"' -f 4 | xargs; }

# resume_at FROM STEP TO: a copy of a run (saved at every step) as it was after a step.
resume_at() {
    local c
    mkdir -p "$3/checkpoints"
    cp "$1/metrics.jsonl" "$3"
    [ ! -f "$1/decisions.jsonl" ] || cp "$1/decisions.jsonl" "$3"
    for c in "$1"/checkpoints/*; do
        case $c in
        */step-*) [ "$((10#${c##*step-}))" -gt "$2" ] || cp -r "$c" "$3/checkpoints" ;;
        */base) cp -r "$c" "$3/checkpoints" ;;
        esac
    done
}

# kill_in_phase DIR NP PHASE ARGUMENTS...: starts a run and kills one rank once the phase has begun.
kill_in_phase() {
    local dir=$1 np=$2 phase=$3 job_pid mpirun_pid victim
    shift 3
    timeout -k 10 "$limit_s" mpirun -np "$np" "$MTTRAIN" "$@" </dev/null >launch.out 2>&1 &
    job_pid=$!
    while kill -0 "$job_pid" 2>/dev/null; do
        grep -qs "\"action\":\"begin\",\"phase\":\"$phase\"" "$dir/metrics.jsonl" && break
        sleep 0.02
    done
    sleep "0.0$((RANDOM % 9))"
    mpirun_pid=$(pgrep -P "$job_pid" -x mpirun)
    victim=$([ -z "$mpirun_pid" ] || pgrep -P "$mpirun_pid" | tail -n 1)
    [ -z "$victim" ] || kill -9 "$victim" 2>/dev/null
    wait "$job_pid"
}
