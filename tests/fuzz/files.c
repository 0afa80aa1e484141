/* What a sender of files may say, into a folder of its own. The first byte: whether files may be replaced. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../files_mock.h"

static bool over;

static void on_end(struct receiving *r, const char *why)
{
    (void)r, (void)why;
    over = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char folder[] = "/tmp/fuzz-files.XXXXXX", outside[64];
    static int fd = -1;
    static uv_loop_t loop;
    static struct side side;
    const struct tw_endpoint_event readable = { .type = TW_EP_READABLE }, closed = { .type = TW_EP_CLOSED };
    if (n < 1)
        return 0;
    if (fd < 0) {
        if (!mkdtemp(folder))
            abort();
        snprintf(outside, sizeof(outside), "%s/in", folder);
        mkdir(outside, 0700);
        fd = open(outside, O_RDONLY | O_DIRECTORY);
        snprintf(outside, sizeof(outside), "%s/x", folder);
        uv_loop_init(&loop);
    }
    side_init(&side, &loop);
    side.peer.ladder = false;
    struct receiving *r = receiving_new(&side.peer, 1, 0, fd, data[0] & 1, on_end, NULL);
    if (!r)
        abort();
    over = false;
    for (size_t at = 1; at < n && !over;) { /* in pieces */
        size_t piece = n - at < 97 ? n - at : 97;
        side_put(&side, data + at, piece);
        at += piece;
        receiving_event(r, &readable);
        for (int i = 0; i < 3; i++)
            uv_run(&loop, UV_RUN_NOWAIT);
    }
    if (!over)
        receiving_event(r, &closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    free(side.in);
    if (access(outside, F_OK) == 0) /* "../x" */
        abort();
    return 0;
}
