# The job of two_tasks.sh and precision.sh; sourced by them. $shared names the folder of the data.

# need_data: ends the script where the data are absent.
need_data() {
    local file
    for file in trec/TREC.train.all sst2/train.tsv vocab/bert-base-uncased-vocab.txt; do
        if [ ! -e "$shared/data/$file" ]; then
            echo "skipped: $shared/data/$file absent"
            exit 77
        fi
    done
}

# two_tasks_job NAME LAYERS HIDDEN EPOCHS LOG_EVERY: TREC question types and SST-2 sentiment.
two_tasks_job() {
    cat <<END_OF_JOB
name = "$1"; run_dir = "run"; seed = 1;
model = { init = "random"; vocab = "$shared/data/vocab/bert-base-uncased-vocab.txt"; max_tokens = 64;
  config = { hidden_size = $3; num_hidden_layers = $2; num_attention_heads = $(($3 / 64));
             intermediate_size = $((4 * $3)); max_position_embeddings = 64; };
  pooling = "mean"; dropout = 0.1; };
data = (
  { name = "trec"; train = [ "$shared/data/trec/TREC.train.all" ];
    dev = [ "$shared/data/trec/TREC.test.all" ]; delimiter = " "; header = false; text = "1"; },
  { name = "sst2"; train = [ "$shared/data/sst2/train.tsv" ]; dev = [ "$shared/data/sst2/dev.tsv" ];
    header = false; text = "0"; } );
tasks = (
  { name = "question"; data = "trec"; column = "0"; labels = [ "0", "1", "2", "3", "4", "5" ]; },
  { name = "sentiment"; data = "sst2"; column = "1"; labels = [ "0", "1" ]; } );
batch = { sentences = 32; lanes = 8; sampling = "proportional"; };
train = { epochs = $4.0; eval_every = "1ep"; save_every = "1h"; log_every = "$5"; };
optimizer = { lr = 3e-4; weight_decay = 0.01; clip = 1.0; };
phases = ( { name = "all"; until = "1.0run"; train = [ "*" ]; warmup = "0.1phase"; shape = "linear"; } );
END_OF_JOB
}
