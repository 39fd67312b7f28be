/*
 * mttrain ctl: talk to a running job or daemon.  Needs no MPI of its own; under mpirun rank 0 asks.
 */
#include <stdio.h>
#include <string.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "trainer/commands/arguments.h"
#include "trainer/ctl.h"

enum { STATUS_MAX_BYTES = 1 << 20, SILENT_S = 15 };

static const char *text_of(const struct json_node *root, const char *key)
{
    const char *text = json_node_string(json_node_get(root, key));
    return text != NULL ? text : "";
}

static int64_t int_of(const struct json_node *root, const char *key)
{
    int64_t value;
    return json_node_int(json_node_get(root, key), &value) ? value : 0;
}

static bool is_over(const char *state)
{
    return strcmp(state, "done") == 0 || strcmp(state, "stopped") == 0 ||
           strcmp(state, "failed") == 0;
}

static void print_progress(const struct json_node *root)
{
    double value;
    int64_t step = int_of(root, "step"), steps = int_of(root, "steps");
    char left[CLOCK_TEXT_BYTES];
    if (text_of(root, "phase")[0] != '\0')
        printf("phase     %s (%lld of %lld)\n", text_of(root, "phase"),
               (long long)int_of(root, "phase_index") + 1, (long long)int_of(root, "phases"));
    if (steps > 0)
        printf("step      %lld of %lld (%.1f%%)\n", (long long)step, (long long)steps,
               100.0 * (double)step / (double)steps);
    else
        printf("step      %lld\n", (long long)step);
    if (json_node_real(json_node_get(root, "loss"), &value))
        printf("loss      %.4f\n", value);
    if (json_node_real(json_node_get(root, "lr"), &value))
        printf("rate      %.3g\n", value);
    if (json_node_real(json_node_get(root, "tokens_per_s"), &value))
        printf("speed     %.0f tokens/s\n", value);
    if (json_node_real(json_node_get(root, "eta_s"), &value) && !is_over(text_of(root, "state"))) {
        clock_format_duration(left, value);
        printf("time left %s\n", left);
    }
}

static void print_status(const struct json_node *root)
{
    const char *state = text_of(root, "state"), *name = text_of(root, "name");
    int64_t age_s = clock_wall_s() - int_of(root, "time");
    printf("state     %s%s\n", state,
           age_s > SILENT_S && !is_over(state) ? " (but not heard of lately: is it running?)" : "");
    if (name[0] != '\0')
        printf("job       %s in %s\n", name, text_of(root, "run_dir"));
    printf("where     %s, %lld ranks, process %lld\n", text_of(root, "host"),
           (long long)int_of(root, "ranks"), (long long)int_of(root, "pid"));
    if (name[0] != '\0')
        print_progress(root);
    printf("as of     %s (%lld s ago)\n", text_of(root, "iso"), (long long)age_s);
}

static mt_status show_status(const char *dir, bool json)
{
    char *path = NULL, *text = NULL;
    struct json_doc *doc = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&path, dir, "status.json"), done);
    if (!file_exists(path)) {
        st = MT_FAIL(MT_DATA, "%s is not there: name the run_dir of a job or the spool of a daemon",
                     path);
        goto done;
    }
    MT_TRY_GOTO(st, file_read(&text, &bytes, path, STATUS_MAX_BYTES), done);
    MT_TRY_GOTO(st, json_doc_parse(&doc, text, bytes, path), done);
    if (json)
        printf("%s\n", text);
    else
        print_status(json_doc_root(doc));
done:
    json_doc_destroy(&doc);
    mt_free(&text);
    mt_free(&path);
    return st;
}

static mt_status ask(const char *dir, const char *verb, const char *argument, double wait_s)
{
    struct ctl_command command;
    char answer[MT_MESSAGE_BYTES];
    MT_TRY(ctl_parse(&command, verb, argument));
    MT_TRY(ctl_ask(dir, &command, wait_s, answer, (int64_t)sizeof answer));
    if (strncmp(answer, "error: ", 7) == 0)
        return MT_FAIL(MT_ARG, "%s", answer + 7);
    printf("%s\n", answer);
    return MT_OK;
}

static mt_status run(const struct invocation *call)
{
    struct text_list words = {0};
    double wait_s = 60.0;
    bool json = false, help;
    const struct argument table[] = {
        {"--wait", "SECONDS", ARGUMENT_REAL, &wait_s,
         "for the job's answer, which comes at its next step boundary (default 60; 0 = none)"},
        {"--json", NULL, ARGUMENT_FLAG, &json, "status as JSON"},
        {NULL, "DIR COMMAND", ARGUMENT_REST, &words,
         "run_dir or spool; status, checkpoint, stop, pause, resume, next-phase, set KEY=VALUE "
         "(train.log_every, train.save_every, train.eval_every, lr_scale), stop-after-job"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_ctl, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (words.count < 2 || words.count > 3)
        st = MT_FAIL(MT_ARG, "ctl needs DIR and a command (mttrain ctl --help)");
    else if (strcmp(words.item[1], "status") == 0 && words.count == 2)
        st = show_status(words.item[0], json);
    else
        st = ask(words.item[0], words.item[1], words.count == 3 ? words.item[2] : NULL, wait_s);
done:
    text_list_release(&words);
    return st;
}

const struct command command_ctl = {
    "ctl",
    "DIR status|checkpoint|stop|pause|resume|next-phase|set KEY=VALUE",
    "Talks to a running job (its run_dir) or a daemon (its spool).",
    "mttrain ctl runs/quickstart set train.save_every=5min",
    COMMAND_ROOT,
    run};
