/*
 * See ctl.h.
 *
 * The thread removes a command's file when it has read it, and later writes the answer, so nothing
 * of the file system is ever waited for by the loop.  Looking costs one stat a folder unless
 * something was put there: a folder's time of change is trusted once it is older than a second.
 */
#include "trainer/ctl.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/stop.h"
#include "io/file.h"
#include "io/json.h"
#include "schedules/text.h"

enum { DIR_BYTES = 4096, PATH_BYTES = DIR_BYTES + 160, FILE_MAX_BYTES = 4096, FOLDERS = 2 };

static const double LOOK_S = 0.1, STATUS_S = 2.0;

static const char *const verb_names[CTL_VERBS] = {
    [CTL_CHECKPOINT] = "checkpoint",
    [CTL_STOP] = "stop",
    [CTL_PAUSE] = "pause",
    [CTL_RESUME] = "resume",
    [CTL_NEXT_PHASE] = "next-phase",
    [CTL_SET] = "set",
    [CTL_STOP_AFTER_JOB] = "stop-after-job",
};

struct answer {
    char dir[DIR_BYTES], id[CTL_ID_BYTES], text[CTL_TEXT_BYTES * 3];
};

struct folder {
    char dir[DIR_BYTES]; /* "" = none */
    struct timespec changed;
    bool looked;
};

struct ctl {
    struct folder folder[FOLDERS]; /* the run's, the spool's */
    pthread_t thread;
    bool running;
    atomic_bool ends;
    pthread_mutex_t lock; /* of all that follows */
    struct ctl_command queue[CTL_PENDING_MAX];
    struct answer answer[CTL_PENDING_MAX];
    int32_t queued, answers;
    struct ctl_status status;
    bool told;
};

static char spool_dir[DIR_BYTES];
static atomic_bool after_job;

const char *ctl_verb_name(enum ctl_verb verb)
{
    return (unsigned)verb < CTL_VERBS ? verb_names[verb] : "?";
}

bool ctl_stop_after_job(void)
{
    return atomic_load(&after_job);
}

void ctl_use_spool(const char *spool)
{
    (void)snprintf(spool_dir, sizeof spool_dir, "%s", spool == NULL ? "" : spool);
}

mt_status ctl_parse(struct ctl_command *out, const char *verb, const char *argument)
{
    memset(out, 0, sizeof *out);
    for (int v = 0; v < CTL_VERBS; v++) {
        if (strcmp(verb, verb_names[v]) != 0)
            continue;
        const char *equals = argument == NULL ? NULL : strchr(argument, '=');
        out->verb = (enum ctl_verb)v;
        if (v != CTL_SET)
            return argument == NULL || argument[0] == '\0'
                       ? MT_OK
                       : MT_FAIL(MT_ARG, "%s takes no argument, but got \"%.100s\"", verb,
                                 argument);
        if (equals == NULL || equals == argument || equals - argument >= CTL_TEXT_BYTES ||
            strlen(equals) > CTL_TEXT_BYTES)
            return MT_FAIL(MT_ARG, "set needs KEY=VALUE, such as train.save_every=5min");
        (void)snprintf(out->key, sizeof out->key, "%.*s", (int)(equals - argument), argument);
        (void)snprintf(out->value, sizeof out->value, "%.150s", equals + 1);
        return MT_OK;
    }
    const char *near = text_nearest(verb, verb_names, CTL_VERBS);
    if (near != NULL)
        return MT_FAIL(MT_ARG, "unknown command \"%.60s\"; did you mean \"%s\"?", verb, near);
    return MT_FAIL(MT_ARG,
                   "unknown command \"%.60s\"; known are status, checkpoint, stop, pause, resume, "
                   "next-phase, set KEY=VALUE and, of a daemon, stop-after-job",
                   verb);
}

static bool id_is_plain(const char *id, size_t bytes)
{
    return bytes > 0 && bytes < CTL_ID_BYTES && id[0] != '.' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") >= bytes;
}

static bool path_of(char path[PATH_BYTES], const char *dir, const char *id, const char *ending)
{
    int n = snprintf(path, PATH_BYTES, "%s/ctl/%s%s", dir, id, ending);
    return n > 0 && n < PATH_BYTES;
}

static void write_answer(const char *dir, const char *id, const char *text)
{
    char path[PATH_BYTES];
    if (!path_of(path, dir, id, ".answer") ||
        file_write_atomic(path, text, (int64_t)strlen(text)) != MT_OK)
        mt_error_clear(); /* whoever asked hears nothing and says so */
}

/* Reads and removes the command file `name`; false where it is none. */
static bool read_command(const char *dir, const char *name, struct ctl_command *out)
{
    char path[PATH_BYTES], *text = NULL;
    int64_t bytes;
    size_t stem = strlen(name);
    if (stem < 5 || strcmp(name + stem - 4, ".cmd") != 0 || !id_is_plain(name, stem - 4) ||
        !path_of(path, dir, name, ""))
        return false;
    mt_status st = file_read(&text, &bytes, path, FILE_MAX_BYTES);
    (void)unlink(path);
    if (st == MT_OK) {
        char *argument, *end = text + strcspn(text, "\r\n");
        *end = '\0';
        argument = strchr(text, ' ');
        if (argument != NULL)
            *argument++ = '\0';
        st = ctl_parse(out, text, argument);
    }
    mt_free(&text);
    (void)snprintf(out->id, sizeof out->id, "%.*s", (int)(stem - 4), name);
    if (st == MT_OK)
        return true;
    char answer[MT_MESSAGE_BYTES + 16];
    (void)snprintf(answer, sizeof answer, "error: %s", mt_error_peek()->message);
    mt_error_clear();
    write_answer(dir, out->id, answer);
    return false;
}

/* Up to `room` commands of a folder, in the order of their names. */
static int32_t read_folder(const char *dir, struct ctl_command *out, int32_t room)
{
    char path[PATH_BYTES];
    struct file_list names = {0};
    int32_t count = 0;
    if (!path_of(path, dir, "", "") || file_list_read(&names, path) != MT_OK)
        mt_error_clear();
    for (int32_t i = 0; i < names.count && count < room; i++) {
        memset(&out[count], 0, sizeof out[count]);
        if (read_command(dir, names.names[i], &out[count]))
            count++;
    }
    file_list_release(&names);
    return count;
}

static bool has_changed(struct folder *f)
{
    char path[PATH_BYTES];
    struct stat info;
    if (f->dir[0] == '\0' || !path_of(path, f->dir, "", "") || stat(path, &info) != 0)
        return false;
    bool same = f->looked && info.st_mtim.tv_sec == f->changed.tv_sec &&
                info.st_mtim.tv_nsec == f->changed.tv_nsec;
    f->changed = info.st_mtim;
    f->looked = clock_wall_s() > (int64_t)info.st_mtim.tv_sec + 1; /* else look once more */
    return !same;
}

/* What need not wait for a step boundary. */
static bool do_at_once(const struct ctl_command *c, const char *dir)
{
    if (c->verb == CTL_STOP) {
        stop_request(STOP_COMMAND);
        write_answer(dir, c->id, "ok: the job saves its state and stops (exit code 75)");
        return true;
    }
    if (c->verb != CTL_STOP_AFTER_JOB)
        return false;
    if (spool_dir[0] == '\0') {
        write_answer(dir, c->id, "error: this is no daemon; use stop");
    } else {
        atomic_store(&after_job, true);
        write_answer(dir, c->id, "ok: the daemon stops when the present job is over");
    }
    return true;
}

static void look(struct ctl *ctl)
{
    for (int f = 0; f < FOLDERS; f++) {
        struct ctl_command command[CTL_PENDING_MAX];
        if (!has_changed(&ctl->folder[f]))
            continue;
        (void)pthread_mutex_lock(&ctl->lock);
        int32_t room = CTL_PENDING_MAX - ctl->queued;
        (void)pthread_mutex_unlock(&ctl->lock);
        int32_t count = read_folder(ctl->folder[f].dir, command, room);
        if (count == room)
            ctl->folder[f].looked = false;
        for (int32_t i = 0; i < count; i++) {
            command[i].from_spool = f == 1;
            if (do_at_once(&command[i], ctl->folder[f].dir))
                continue;
            (void)pthread_mutex_lock(&ctl->lock);
            ctl->queue[ctl->queued++] = command[i];
            (void)pthread_mutex_unlock(&ctl->lock);
        }
    }
}

static void send_answers(struct ctl *ctl)
{
    for (;;) {
        struct answer one;
        (void)pthread_mutex_lock(&ctl->lock);
        int32_t left = ctl->answers;
        if (left > 0) {
            one = ctl->answer[0];
            ctl->answers--;
            memmove(ctl->answer, ctl->answer + 1, (size_t)ctl->answers * sizeof one);
        }
        (void)pthread_mutex_unlock(&ctl->lock);
        if (left == 0)
            return;
        write_answer(one.dir, one.id, one.text);
    }
}

static void put_real(struct json_writer *w, const char *key, double value)
{
    if (isfinite(value))
        json_write_real(w, key, value);
}

static mt_status write_status(const char *dir, const char *run_dir, const struct ctl_status *s)
{
    struct json_writer w = {.indent = 1};
    char iso[CLOCK_TEXT_BYTES];
    const char *text;
    char *path = NULL;
    int64_t bytes;
    mt_status st;
    clock_format_iso(iso);
    json_write_object(&w, NULL);
    json_write_string(&w, "state", s->state);
    json_write_string(&w, "name", s->name);
    json_write_string(&w, "run_dir", run_dir);
    json_write_int(&w, "time", clock_wall_s());
    json_write_string(&w, "iso", iso);
    json_write_string(&w, "host", s->host);
    json_write_int(&w, "pid", getpid());
    json_write_int(&w, "ranks", s->ranks);
    json_write_string(&w, "phase", s->phase);
    json_write_int(&w, "phase_index", s->phase_index);
    json_write_int(&w, "phases", s->phases);
    json_write_int(&w, "step", s->step);
    json_write_int(&w, "steps", s->steps);
    put_real(&w, "loss", s->loss);
    put_real(&w, "lr", s->lr);
    put_real(&w, "tokens_per_s", s->tokens_per_s);
    put_real(&w, "eta_s", s->eta_s);
    json_write_end(&w);
    MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
    MT_TRY_GOTO(st, file_path_join(&path, dir, "status.json"), done);
    st = file_write_atomic(path, text, bytes);
done:
    json_writer_release(&w);
    mt_free(&path);
    return st;
}

static void show_status(struct ctl *ctl)
{
    (void)pthread_mutex_lock(&ctl->lock);
    struct ctl_status status = ctl->status;
    bool told = ctl->told;
    (void)pthread_mutex_unlock(&ctl->lock);
    for (int f = 0; f < FOLDERS && told; f++)
        if (ctl->folder[f].dir[0] != '\0' &&
            write_status(ctl->folder[f].dir, ctl->folder[0].dir, &status) != MT_OK)
            mt_error_clear(); /* shown to nobody; the next one may succeed */
}

static void *listen_thread(void *context)
{
    struct ctl *ctl = context;
    char shown[sizeof ctl->status.state] = "";
    double last_s = 0.0;
    while (!atomic_load(&ctl->ends)) {
        look(ctl);
        send_answers(ctl);
        (void)pthread_mutex_lock(&ctl->lock);
        bool other = strcmp(shown, ctl->status.state) != 0;
        memcpy(shown, ctl->status.state, sizeof shown);
        (void)pthread_mutex_unlock(&ctl->lock);
        if (other || clock_now_s() - last_s >= STATUS_S) {
            last_s = clock_now_s();
            show_status(ctl);
        }
        clock_sleep_s(LOOK_S);
    }
    send_answers(ctl);
    show_status(ctl);
    return NULL;
}

/* Makes dir/ctl and empties it: what was asked of an earlier process is void. */
static mt_status clear_folder(const char *dir)
{
    char path[PATH_BYTES];
    if (!path_of(path, dir, "", ""))
        return MT_FAIL(MT_ARG, "%.200s...: path too long", dir);
    MT_TRY(file_remove(path));
    return file_make_dir(path);
}

void ctl_open(struct ctl **out, const char *dir)
{
    struct ctl *ctl;
    mt_status st = mt_alloc(&ctl, 1, sizeof *ctl, "the listener for commands");
    if (st == MT_OK && strlen(dir) < DIR_BYTES) {
        memcpy(ctl->folder[0].dir, dir, strlen(dir) + 1);
        memcpy(ctl->folder[1].dir, spool_dir, sizeof spool_dir);
        st = clear_folder(dir);
        if (pthread_mutex_init(&ctl->lock, NULL) != 0 ||
            pthread_create(&ctl->thread, NULL, listen_thread, ctl) != 0)
            st = MT_FAIL(MT_NOMEM, "no thread to listen for commands");
        else
            ctl->running = true;
    }
    if (st != MT_OK) {
        log_warning("no commands (mttrain ctl) are heard: %s", mt_error_peek()->message);
        mt_error_clear();
    }
    *out = ctl;
}

void ctl_close(struct ctl **ctl)
{
    if (*ctl == NULL)
        return;
    atomic_store(&(*ctl)->ends, true);
    if ((*ctl)->running) {
        (void)pthread_join((*ctl)->thread, NULL);
        (void)pthread_mutex_destroy(&(*ctl)->lock);
    }
    mt_free(ctl);
}

int32_t ctl_pending(struct ctl *ctl)
{
    (void)pthread_mutex_lock(&ctl->lock);
    int32_t count = ctl->queued;
    (void)pthread_mutex_unlock(&ctl->lock);
    return count;
}

bool ctl_take(struct ctl *ctl, struct ctl_command *out)
{
    (void)pthread_mutex_lock(&ctl->lock);
    bool any = ctl->queued > 0;
    if (any) {
        *out = ctl->queue[0];
        ctl->queued--;
        memmove(ctl->queue, ctl->queue + 1, (size_t)ctl->queued * sizeof *out);
    }
    (void)pthread_mutex_unlock(&ctl->lock);
    return any;
}

void ctl_answer(struct ctl *ctl, const struct ctl_command *command, const char *format, ...)
{
    va_list args;
    (void)pthread_mutex_lock(&ctl->lock);
    if (ctl->answers < CTL_PENDING_MAX) {
        struct answer *a = &ctl->answer[ctl->answers++];
        memcpy(a->dir, ctl->folder[command->from_spool ? 1 : 0].dir, sizeof a->dir);
        memcpy(a->id, command->id, sizeof a->id);
        va_start(args, format);
        (void)vsnprintf(a->text, sizeof a->text, format, args);
        va_end(args);
    }
    (void)pthread_mutex_unlock(&ctl->lock);
}

void ctl_tell(struct ctl *ctl, const struct ctl_status *status)
{
    (void)pthread_mutex_lock(&ctl->lock);
    ctl->status = *status;
    ctl->told = true;
    (void)pthread_mutex_unlock(&ctl->lock);
}

/* The side of a daemon between jobs. */

mt_status ctl_prepare(const char *dir)
{
    atomic_store(&after_job, false);
    return clear_folder(dir);
}

bool ctl_poll(const char *dir)
{
    struct ctl_command c;
    bool stops = false;
    while (read_folder(dir, &c, 1) > 0) {
        bool is_stop = c.verb == CTL_STOP || c.verb == CTL_STOP_AFTER_JOB;
        write_answer(dir, c.id,
                     is_stop ? "ok: the daemon stops" : "error: no job is being trained");
        stops = stops || is_stop;
    }
    return stops;
}

void ctl_tell_idle(const char *dir, const char *state, const char *host, int32_t ranks)
{
    struct ctl_status s = {
        .ranks = ranks, .loss = NAN, .lr = NAN, .tokens_per_s = NAN, .eta_s = NAN};
    (void)snprintf(s.state, sizeof s.state, "%s", state);
    (void)snprintf(s.host, sizeof s.host, "%s", host);
    if (write_status(dir, "", &s) != MT_OK)
        mt_error_clear();
}

/* The asking side. */

mt_status ctl_ask(const char *dir, const struct ctl_command *command, double wait_s, char *answer,
                  int64_t answer_bytes)
{
    char id[CTL_ID_BYTES], path[PATH_BYTES], reply[PATH_BYTES], line[3 * CTL_TEXT_BYTES];
    char *text = NULL;
    int64_t bytes;
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(id, sizeof id, "%012lld.%09ld-%ld", (long long)now.tv_sec, now.tv_nsec,
                   (long)getpid());
    if (strlen(dir) >= DIR_BYTES - 32 || !path_of(path, dir, "", "") || !file_is_dir(path))
        return MT_FAIL(MT_DATA,
                       "%s has no folder ctl: no job or daemon of mttrain works there; name a "
                       "run_dir or a spool",
                       dir);
    bool is_set = command->verb == CTL_SET;
    (void)snprintf(line, sizeof line, "%s%s%s%s%s\n", ctl_verb_name(command->verb),
                   is_set ? " " : "", command->key, is_set ? "=" : "", command->value);
    if (!path_of(path, dir, id, ".cmd") || !path_of(reply, dir, id, ".answer"))
        return MT_FAIL(MT_ARG, "%s: path too long", dir);
    MT_TRY(file_write_atomic(path, line, (int64_t)strlen(line)));
    (void)snprintf(answer, (size_t)answer_bytes, "asked; the answer was not waited for");
    for (double begin_s = clock_now_s(); wait_s > 0.0; clock_sleep_s(LOOK_S / 2)) {
        if (file_exists(reply)) {
            MT_TRY(file_read(&text, &bytes, reply, FILE_MAX_BYTES));
            (void)snprintf(answer, (size_t)answer_bytes, "%s", text);
            mt_free(&text);
            (void)unlink(reply);
            return MT_OK;
        }
        if (clock_now_s() - begin_s < wait_s)
            continue;
        bool unread = unlink(path) == 0;
        return MT_FAIL(MT_DATA, "no answer within %.0f s: %s", wait_s,
                       unread ? "nobody listens there (the command was taken back); is the job "
                                "running?"
                              : "the command was read and takes effect at the next step boundary");
    }
    return MT_OK;
}
