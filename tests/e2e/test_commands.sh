#!/usr/bin/env bash
# The commands around a model, as their help pages show them: pack, inspect, vocab, check, embed,
# predict, eval, export, and a job that begins from an exported model.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_corpora .
make_job job.cfg run
python=$(command -v python3 || true)

for command in train serve pack vocab check eval predict embed export inspect; do
    alone "$command" --help && contains "$command --help shows an example" out '^ *(mpirun .*mttrain|.*mttrain) '
done
alone --help && contains "--help shows an example" out 'mpirun .*mttrain'
alone --version
for library in mttrain MPI HDF5 '^products +(amx|native|.*BLAS|oneDNN)'; do
    contains "--version names $library" out "$library"
done

# vocab
tail -n +2 kinds.tsv | cut -f 1 >lines.txt
must 1 vocab --size 400 --out v1.txt lines.txt && alone vocab --size 400 --out v2.txt lines.txt
holds "vocab writes the same file again" cmp v1.txt v2.txt
holds "vocab keeps to its size" [ "$(wc -l <v1.txt)" -le 400 ]
equal "vocab has the special tokens" "[PAD]" "$(head -n 1 v1.txt)"

# pack and inspect
alone pack --vocab "$vocab" --out packed --max-tokens 32 --text-column sentence \
    --label category --shard-rows 50 kinds.tsv
holds "pack makes shards of --shard-rows rows" [ "$(ls packed/*.h5 | wc -l)" -eq 3 ]
must 3 pack --vocab "$vocab" --out packed3 --max-tokens 32 --text-column sentence \
    --label category --shard-rows 50 kinds.tsv
equal "pack under mpirun makes the same data" "$(hash_of packed)" "$(hash_of packed3)"
alone inspect packed && contains "inspect counts the rows of a packed folder" out '120'
contains "inspect shows the balance of labels" out 'personal'
alone inspect packed/*.h5 && contains "inspect shows a shard" out 'category'
awk -F '\t' 'NR > 1 { gsub(/"/, "\\\"", $1); printf "{\"sentence\": \"%s\", \"category\": \"%s\"}\n", $1, $2 }' \
    kinds.tsv >kinds.jsonl
awk -F '\t' '{ gsub(/"/, "\"\"", $1); printf "\"%s\",%s\r\n", $1, $2 }' kinds.tsv >kinds.csv
for format in csv jsonl; do
    alone pack --vocab "$vocab" --out "packed-$format" --max-tokens 32 --text-column sentence \
        --label category --shard-rows 50 "kinds.$format"
    equal "pack reads $format as it reads tsv" "$(hash_of packed)" "$(hash_of "packed-$format")"
done

# check touches nothing
everything() { rm -f out && find . | sort | xargs ls -ld --time-style=full-iso 2>/dev/null | grep -v ' \.$' | cksum; }
before=$(everything)
must 2 check job.cfg && contains "check says that the job is valid" out 'valid'
contains "check lists the phases" out 'heads.*steps 0'
equal "check touches nothing" "$before" "$(everything)"

# the same job on packed shards as on text
must 2 job.cfg || finish
sed -e "s#\"kinds.tsv\"#\"$(echo run/shards/kinds-train-*)\"#;s#\"kinds-dev.tsv\"#\"$(echo run/shards/kinds-dev-*)\"#" \
    job.cfg >shards.cfg
must 3 shards.cfg --set run_dir=run-shards &&
    equal "a job on ready-made shards gives the bits of one on text" "$(hash_of run)" "$(hash_of run-shards)"
sed -e 's/"kinds.tsv"/"packed"/' job.cfg >order.cfg
rc=0
ranks 2 order.cfg --set run_dir=order || rc=$?
equal "shards whose labels stand in another order: exit code" 3 "$rc"
contains "... says which labels there are, and what to do" out '"app", "fact", "personal".*pack'

# inspect a run, a checkpoint, a model folder
for what in run run/checkpoints/latest run/model; do
    alone inspect "$what" && ok "inspect $what"
done
equal "a run's hash is its last checkpoint's" "$(hash_of run/checkpoints/latest)" "$(hash_of run)"
alone inspect --verify run/checkpoints/latest && contains "inspect --verify" out 'valid'

# embed: h5, npy and tsv hold the same numbers, at any rank count the same bytes
{ cat lines.txt; echo; echo "a last line, without its end"; } >texts.txt
n=$(wc -l <texts.txt)
for type in h5 npy tsv; do
    for np in 1 3; do
        must "$np" embed run --in texts.txt --out "e$np.$type"
    done
done
for type in npy tsv; do
    holds "embed to $type: the same bytes at np 1 and np 3" cmp "e1.$type" "e3.$type"
done
equal "embed writes a row a line" "$n" "$(wc -l <e1.tsv)"
numbers() { tr -s ' \t,\n' '\n' | sed '/^$/d'; }
near() { paste "$1" "$2" | awk '{ d = $1 - $2; if (d > 1e-6 || d < -1e-6) bad++ } END { exit NR == 0 || bad > 0 }'; }
numbers <e1.tsv >tsv.numbers
if command -v h5dump >/dev/null; then
    dataset=$(h5dump -n e1.h5 | awk '$1 == "dataset" { print $2; exit }')
    for np in 1 3; do
        h5dump -y -w 1 -m %.9g -d "$dataset" "e$np.h5" | sed -n '/DATA {/,/}/p' | sed '1d;$d' |
            tr -d '}' | numbers >"h5.numbers$np"
    done
    holds "embed to h5: the same numbers at np 1 and np 3" cmp h5.numbers1 h5.numbers3
    holds "embed: h5 holds the numbers of tsv" near h5.numbers1 tsv.numbers
fi
bytes=$(($(wc -l <tsv.numbers) * 4))
tail -c "$bytes" e1.npy | od -An -v -tf4 -w4 | numbers >npy.numbers
holds "embed: npy holds the numbers of tsv" near npy.numbers tsv.numbers
if [ -n "$python" ] && "$python" -c 'import numpy' 2>/dev/null; then
    holds "numpy reads the npy file" "$python" -c "
import numpy, sys
e = numpy.load('e1.npy')
sys.exit(e.shape != ($n, 32) or e.dtype != numpy.float32)"
fi
holds "embed leaves nothing half-written" [ -z "$(find . -name '*.tmp*')" ]

# predict: a JSON line a line, from a file and from standard input, the same
timeout "$limit_s" mpirun -np 2 "$MTTRAIN" predict run texts.txt >p2 2>err </dev/null ||
    fail "predict: $(cat err)"
timeout "$limit_s" "$MTTRAIN" predict run <texts.txt >p1 2>err || fail "predict: $(cat err)"
equal "predict writes a line a line" "$n" "$(wc -l <p2)"
holds "predict says the same from a file at np 2 as from standard input" cmp p1 p2
contains "predict names label and probabilities of both tasks" p1 'category.*label.*probabilities.*sentiment'
timeout "$limit_s" "$MTTRAIN" predict run --task sentiment texts.txt >p3
holds "predict --task leaves the other out" [ "$(grep -c category p3)" -eq 0 ]
if [ -n "$python" ]; then
    holds "each line is JSON and its probabilities add up to 1" "$python" -c "
import json, sys
for line in open('p1'):
    row = json.loads(line)
    for value in row.values():
        if isinstance(value, dict):
            p = value['probabilities']
            assert abs(sum(p.values()) - 1) < 1e-5 and max(p, key=p.get) == value['label'], row"
fi

# eval: of the run's own data and of a file; accuracy is what predict's answers give
must 3 eval run && contains "eval reports the tasks of the run" out 'sentiment'
must 2 eval run --data kinds=kinds-dev.tsv --text-column sentence --json
cp out eval.json
said=$(grep -h category eval.json | grep -o '"accuracy":[0-9.]*' | head -n 1 | cut -d : -f 2)
tail -n +2 kinds-dev.tsv | cut -f 1 >dev-lines.txt
tail -n +2 kinds-dev.tsv | cut -f 2 >dev-labels.txt
timeout "$limit_s" "$MTTRAIN" predict run --task category dev-lines.txt |
    grep -o '"label":"[^"]*"' | cut -d '"' -f 4 >dev-said.txt
counted=$(paste dev-labels.txt dev-said.txt | awk '$1 == $2 { n++ } END { printf "%.6f", n / NR }')
equal "eval's accuracy is that of predict's labels" "$counted" "$(printf %.6f "$said")"
must 1 eval run --data kinds=kinds-dev.tsv --json &&
    equal "a data set of the run's job is read as the job reads it" "$(cat eval.json)" "$(cat out)"
cp kinds-dev.tsv kinds.txt
must 1 eval run --data kinds=kinds.txt --format tsv --json &&
    equal "--format says what a name does not" "$(cat eval.json)" "$(cat out)"
must 2 eval run --data "kinds=$(ls -d run/shards/kinds-dev-*)" --json &&
    equal "shards are used as they are" "$(cat eval.json)" "$(cat out)"

# export, and a job that begins from it
must 2 export run --to exported
for file in config.json model.safetensors vocab.txt tokenizer_config.json modules.json; do
    holds "export writes $file" [ -s "exported/$file" ]
done
must 1 embed exported --in texts.txt --out x.npy
holds "the exported model gives the embeddings of the run" cmp x.npy e1.npy
timeout "$limit_s" "$MTTRAIN" predict exported texts.txt >p4
holds "the exported model gives the predictions of the run" cmp p4 p1
sed -e '/^model = /,/};$/d' job.cfg >again.cfg
echo 'model = { init = "exported"; max_tokens = 32; };' >>again.cfg
must 2 again.cfg --set run_dir=again --set train.epochs=1.0 &&
    ok "a job begins from an exported model"
must 1 again.cfg --set run_dir=again1 --set train.epochs=1.0 --set 'model.init="run"' &&
    equal "... and from the run itself, with the same result" "$(hash_of again)" "$(hash_of again1)"
finish
