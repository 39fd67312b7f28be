#!/usr/bin/env bash
# Every bad input has its own exit code and a message that says what is wrong, where, and how to mend
# it; all ranks leave, and nothing half-written stays behind.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_corpora .
make_job job.cfg run

# refused WHAT CODE PATTERN NP ARGUMENTS...: the output has one error line that matches the pattern.
refused() {
    local what=$1 code=$2 pattern=$3 rc=0
    shift 3
    ranks "$@" || rc=$?
    equal "$what: exit code" "$code" "$rc"
    contains "$what: the message" out "$pattern"
    equal "$what: said once" 1 "$(grep -c '^error: ' out)"
    if [ -n "$(find . -name '*.tmp*')" ]; then
        fail "$what: left half-written: $(find . -name '*.tmp*' | head -n 3 | xargs)"
    fi
    find . -name '*.tmp*' -delete
}

# edit NAME SED-SCRIPT: a copy of the job.
edit() { sed -e "$2" -e "s#run_dir = \"run\"#run_dir = \"run-$1\"#" job.cfg >"$1.cfg"; }

# Usage
refused "unknown command" 2 'unknown command "embd"; did you mean "embed"' 2 embd
refused "unknown option" 2 'unknown option.*--poling.*did you mean "?--pooling' 2 embed m --poling mean
refused "option without its value" 2 '--pooling' 2 embed m --pooling
refused "number that is none" 2 '--size.*many' 2 vocab --size many --out v.txt kinds.tsv
refused "missing argument" 2 'embed needs' 2 embed
refused "unknown task" 2 '.' 2 predict nothing-there --tusk x

# The job file
refused "missing job file" 2 'no-job\.cfg.*No such file' 2 no-job.cfg
edit syntax 's/seed = 7;/seed = = 7;/'
refused "bad syntax" 2 'syntax\.cfg:1: ' 2 syntax.cfg
edit key 's/max_tokens = 32/max_token = 32/'
refused "unknown key" 2 'key\.cfg:2: .*max_token.*did you mean "?(model\.)?max_tokens' 2 key.cfg
edit type 's/sentences = 16/sentences = "many"/'
refused "wrong type" 2 'type\.cfg:9: .*batch\.sentences.*number.*"many"' 2 type.cfg
edit word 's/max_tokens = 32/max_tokens = 32; pooling = "meen"/'
refused "unknown word" 2 'word\.cfg:2: .*pooling.*"mean", "cls".*"meen"' 2 word.cfg
edit range 's/lanes = 8/lanes = 6/'
refused "lanes that are no power of two" 2 'range\.cfg:9: .*lanes.*power of two' 2 range.cfg
edit pattern 's/"top(1)"/"encodr.*"/'
refused "pattern that matches no tensor" 2 'pattern\.cfg:1[0-9]: .*encodr' 2 pattern.cfg
edit task 's/data = "moods"/data = "mods"/'
refused "task of an unknown data set" 2 'task\.cfg:8: .*mods.*did you mean "?moods' 2 task.cfg
refused "unknown key in --set" 2 'trian.*did you mean "?train' 2 job.cfg --set trian.epochs=1
edit heads 's/num_attention_heads = 2/num_attention_heads = 3/'
refused "hidden size that heads do not divide" 2 'hidden_size.*num_attention_heads|num_attention_heads.*hidden_size' 2 heads.cfg
refused "more lanes than sentences" 2 'job\.cfg:9: .*8 lanes for 4 sentences.*(lower|raise)' 2 job.cfg --set batch.sentences=4
refused "more ranks than lanes" 2 '3 ranks but batch\.lanes is 2.*raise batch\.lanes' 3 job.cfg --set batch.lanes=2
refused "more tokens than positions" 2 'max_tokens.*64.*32' 2 job.cfg --set model.max_tokens=64

# Ranks that were told different things
edit other 's/seed = 7/seed = 8/'
rc=0
timeout -k 10 "$limit_s" mpirun -np 1 "$MTTRAIN" job.cfg : -np 1 "$MTTRAIN" other.cfg \
    </dev/null >out 2>&1 || rc=$?
equal "ranks with different job files: exit code" 2 "$rc"
contains "ranks with different job files: the message" out 'not the same on all ranks.*rank 1'
rc=0
timeout -k 10 "$limit_s" mpirun -np 1 "$MTTRAIN" job.cfg : -np 1 "$MTTRAIN" job.cfg --set seed=9 \
    </dev/null >out 2>&1 || rc=$?
equal "ranks with different --set: exit code" 2 "$rc"
contains "ranks with different --set: the message" out 'not the same on all ranks.*rank 1'
rc=0
timeout -k 10 "$limit_s" mpirun -np 1 "$MTTRAIN" job.cfg : -np 1 "$MTTRAIN" embed x --in y --out z.npy \
    </dev/null >out 2>&1 || rc=$?
equal "ranks with different commands: exit code" 2 "$rc"
contains "ranks with different commands: the message" out 'not the same on all ranks.*rank 1'

# Data
edit missing 's/"moods.tsv"/"mods.tsv"/'
refused "missing data file" 3 'mods\.tsv.*No such file' 2 missing.cfg
edit column 's/name = "sentiment"; data = "moods"/&; column = "sentimant"/'
refused "unknown column" 3 'moods\.tsv.*sentimant.*sentiment' 2 column.cfg
edit label 's/"personal", "fact"/"personal", "fakt"/'
refused "unknown label" 3 'kinds\.tsv:[0-9]+: .*"?fact"?.*"?category' 2 label.cfg
head -n 1 kinds.tsv >header.tsv
: >nothing.tsv
edit empty 's/"kinds.tsv"/"header.tsv"/'
refused "data set of a header alone" 3 'header\.tsv' 2 empty.cfg
edit void 's/"kinds.tsv"/"nothing.tsv"/'
refused "empty file" 3 'nothing\.tsv' 2 void.cfg
awk -F '\t' 'NR == 1 { print } NR > 1 { print $1 "\t" }' kinds.tsv >unlabelled.tsv
edit nolabel 's/"kinds.tsv"/"unlabelled.tsv"/;s/labels = \[ "personal", "fact", "app" \];//'
refused "data set without a label" 3 'category' 2 nolabel.cfg
printf '\xff\xfe broken\tapp\n' | cat kinds.tsv - >bytes.tsv
edit bytes 's/"kinds.tsv" \];/"bytes.tsv" ]; utf8 = "error";/'
refused "bytes that are not UTF-8, under utf8 = error" 3 'bytes\.tsv:122: ' 2 bytes.cfg

# Shards and vocabulary
alone pack --vocab "$vocab" --out packed --max-tokens 32 --text-column sentence --label category kinds.tsv
head -n 500 "$vocab" >small.txt
edit vocab "s#\"kinds.tsv\"#\"packed\"#;s#$vocab#small.txt#;s/labels = \\[[^]]*\\];//"
refused "vocabulary that does not fit the shards" 3 'packed/shard-00000\.h5.*vocabulary' 2 vocab.cfg
cp -r packed cut
truncate -s -2000 cut/shard-00000.h5
edit cut 's/"kinds.tsv"/"cut"/;s/labels = \[[^]]*\];//'
refused "shard cut short" 3 'cut/shard-00000\.h5' 2 cut.cfg
cp -r packed text
echo "no HDF5" >text/shard-00000.h5
edit text 's/"kinds.tsv"/"text"/;s/labels = \[[^]]*\];//'
refused "shard that is none" 3 'text/shard-00000\.h5' 2 text.cfg

# Models
must 2 job.cfg --set train.epochs=1.0 || finish
edit init '/^model = /,/};$/c model = { init = "MODEL"; max_tokens = 32; };'
model_job() { sed -e "s#\"MODEL\"#\"$1\"#" -e "s#run-init#run-$1#" init.cfg >"from-$1.cfg"; }
model_job no-model
refused "missing model folder" 3 'no-model' 2 from-no-model.cfg
for part in config.json model.safetensors vocab.txt; do
    cp -r run/model "no-$part"
    rm -f "no-$part/$part" "no-$part/tokenizer.json"
    model_job "no-$part"
    refused "model folder without $part" 3 "no-$part" 2 "from-no-$part.cfg"
done
cp -r run/model short
truncate -s -100 short/model.safetensors
model_job short
refused "truncated safetensors" 3 'short/model\.safetensors' 2 from-short.cfg
cp -r run/model header
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of=header/model.safetensors conv=notrunc status=none
model_job header
refused "safetensors with a mad header" 3 'header/model\.safetensors' 2 from-header.cfg
cp -r run/model shape
sed -i 's/"intermediate_size": *64/"intermediate_size": 96/' shape/config.json
model_job shape
refused "shape mismatch" 3 'shape.*encoder\.layer\.0\.intermediate.*(64|96)' 2 from-shape.cfg
cp -r run/model json
echo '{ "hidden_size": ' >json/config.json
model_job json
refused "config.json that is no JSON" 3 'json/config\.json' 2 from-json.cfg
refused "embed from a missing model" 3 'no-model' 2 embed no-model --in kinds.tsv --out e.npy
refused "embed of a missing file" 3 'no-text\.txt' 2 embed run --in no-text.txt --out e.npy
refused "embed to an unknown kind of file" 2 'e\.xyz.*\.h5.*\.npy.*\.tsv' 2 embed run --in kinds.tsv --out e.xyz
refused "predict with a model without heads" 2 'tusk' 2 predict run --task tusk kinds.tsv
refused "inspect of nothing" 3 'no-model' 2 inspect no-model
holds "a refused embed leaves no file" [ ! -e e.npy ]

# Places that cannot be written
: >file
refused "run_dir below a file" 4 'file: cannot create the folder: Not a directory' 2 job.cfg --set run_dir=file/run
if [ "$(id -u)" -eq 0 ]; then
    run_readonly=/proc/mttrain # no right of root helps there
else
    mkdir closed && chmod a-w closed
    run_readonly=$work/closed/run
fi
refused "run_dir that cannot be made" 4 "$run_readonly" 2 job.cfg --set "run_dir=$run_readonly"
refused "embed into a folder that is not there" 4 'nowhere' 2 embed run --in kinds.tsv --out nowhere/e.npy
if [ "$(id -u)" -eq 0 ] && mkdir disk && mount -t tmpfs -o size=300k none disk 2>/dev/null; then
    mounted=$work/disk
    refused "full disk, save_failure = stop" 4 'disk.*No space left' 2 job.cfg --set run_dir=disk/run \
        --set 'train.save_failure="stop"' --set 'train.save_every="1st"'
    rm -rf disk/*
    rc=0
    ranks 2 job.cfg --set run_dir=disk/run --set 'train.save_every="1st"' || rc=$?
    contains "full disk: a warning names the step that is not saved" out 'warning: .*NOT saved.*No space left'
    holds "full disk: whatever checkpoint is there is whole" \
        [ -z "$(find disk -name '*.tmp*')" ]
    umount disk && mounted=
else
    echo "skipped: full disk (no tmpfs can be mounted here)"
fi
finish
