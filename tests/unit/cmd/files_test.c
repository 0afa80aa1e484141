/* Files from one side to the other: as they were, resumed, and nothing where it does not belong. */
#include "../../test.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../files_mock.h"
#include "rt/os.h"

static struct world {
    char dir[64], src[80], dst[80], out[80];
    uv_loop_t loop;
    struct side a, b; /* a sends */
    struct files_list list;
    struct files_progress progress, got;
    struct sending *sending;
    struct receiving *receiving;
    bool a_over, b_over;
    char a_why[100], b_why[100];
} w;

static const struct tw_endpoint_event readable = { .type = TW_EP_READABLE };

static const char *in(const char *folder, const char *name)
{
    static char path[400];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void put_file(const char *folder, const char *name, size_t n, unsigned seed)
{
    FILE *f = fopen(in(folder, name), "w");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        fputc((int)((i * 2654435761U >> 7) + seed), f);
    fclose(f);
}

static bool same_file(const char *name)
{
    FILE *a = fopen(in(w.src, name), "r"), *b = fopen(in(w.dst, name), "r");
    int x = 0, y = 0;
    while (a && b && x == y && x != EOF)
        x = fgetc(a), y = fgetc(b);
    bool same = a && b && x == y;
    if (a)
        fclose(a);
    if (b)
        fclose(b);
    return same;
}

static int begin(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    snprintf(w.dir, sizeof(w.dir), "/tmp/files_test.XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.src, sizeof(w.src), "%s/src", w.dir);
    snprintf(w.dst, sizeof(w.dst), "%s/dst", w.dir);
    snprintf(w.out, sizeof(w.out), "%s/out", w.dir);
    mkdir(w.src, 0700);
    mkdir(w.dst, 0700);
    mkdir(w.out, 0700);
    uv_loop_init(&w.loop);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void end_transfer(void)
{
    if (!w.a_over && w.sending)
        sending_free(w.sending);
    if (!w.b_over && w.receiving)
        receiving_free(w.receiving);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    free(w.a.in);
    free(w.b.in);
    w.sending = NULL;
    w.receiving = NULL;
}

static int end(void **state)
{
    (void)state;
    end_transfer();
    files_free(&w.list);
    uv_loop_close(&w.loop);
    nftw(w.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static void on_sent(struct sending *s, const char *why)
{
    (void)s;
    w.a_over = true;
    snprintf(w.a_why, sizeof(w.a_why), "%s", why ? why : "");
}

static void on_got(struct receiving *r, const char *why)
{
    w.got = *receiving_progress(r);
    w.b_over = true;
    snprintf(w.b_why, sizeof(w.b_why), "%s", why ? why : "");
}

static void open_receiver(bool overwrite)
{
    int folder = open(w.dst, O_RDONLY | O_DIRECTORY);
    side_init(&w.b, &w.loop);
    w.receiving = receiving_new(&w.b.peer, 1, 0, folder, overwrite, on_got, NULL);
    assert_non_null(w.receiving);
    close(folder);
    w.b_over = false;
    w.b_why[0] = 0;
}

static void add(enum files_kind kind, const char *name)
{
    struct stat st;
    assert_ok(stat(in(w.src, name), &st));
    const struct files_entry e = { .kind = kind, .mode = st.st_mode & 0777, .mtime = 12345,
                                   .size = kind == FILES_FILE ? (uint64_t)st.st_size : 0, .name = strdup(name),
                                   .path = strdup(in(w.src, name)) };
    assert_true(files_add(&w.list, &e));
}

/* Runs until both are done, or so many bytes were moved. */
static void transfer(bool overwrite, uint64_t at_most)
{
    end_transfer();
    open_receiver(overwrite);
    side_init(&w.a, &w.loop);
    w.a.other = &w.b;
    w.b.other = &w.a;
    w.a.room = 100000; /* less than two pieces */
    w.b.room = 1000;
    w.progress = (struct files_progress){ .peer = &w.a.peer, .total = w.list.bytes, .file_n = w.list.files };
    w.a_over = false;
    w.a_why[0] = 0;
    w.sending = sending_new(&w.a.peer, 1, 0, &w.list, &w.progress, on_sent);
    assert_non_null(w.sending);
    for (int i = 0; i < 200000 && !(w.a_over && w.b_over) && w.progress.moved < at_most; i++) {
        if (!w.a_over)
            sending_event(w.sending, &readable);
        if (!w.b_over)
            receiving_event(w.receiving, &readable);
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
}

static void all_kinds_of_files_arrive(void **state)
{
    struct stat st;
    (void)state;
    put_file(w.src, "empty", 0, 0);
    put_file(w.src, "one", 1, 5);
    put_file(w.src, "piece", FILES_PIECE, 1);
    put_file(w.src, "big", 5000000, 2);
    mkdir(in(w.src, "folder"), 0755);
    mkdir(in(w.src, "folder/void"), 0755);
    put_file(w.src, "folder/deep", 70000, 3);
    chmod(in(w.src, "one"), 0755);
    add(FILES_FOLDER, "folder");
    add(FILES_FOLDER, "folder/void");
    add(FILES_FILE, "folder/deep");
    add(FILES_FILE, "empty");
    add(FILES_FILE, "one");
    add(FILES_FILE, "piece");
    add(FILES_FILE, "big");
    transfer(false, UINT64_MAX);
    assert_true(w.a_over && w.b_over);
    assert_string_equal(w.a_why, "");
    assert_string_equal(w.b_why, "");
    assert_int_equal(w.progress.files, 5);
    assert_int_equal(w.progress.failed, 0);
    assert_true(same_file("empty") && same_file("one") && same_file("piece") && same_file("big") &&
                same_file("folder/deep"));
    assert_ok(stat(in(w.dst, "folder/void"), &st));
    assert_ok(stat(in(w.dst, "one"), &st));
    assert_int_equal(st.st_mode & 0700, 0700);
    assert_int_equal(st.st_mtime, 12345);
    /* Again: nothing moves. */
    transfer(false, UINT64_MAX);
    assert_true(w.a_over && w.b_over);
    assert_int_equal(w.progress.moved, 0);
    assert_int_equal(w.progress.failed, 0);
    /* Others of the same names are left alone, unless they may be replaced. */
    put_file(w.src, "piece", FILES_PIECE, 9);
    transfer(false, UINT64_MAX);
    assert_int_equal(w.progress.failed, 1);
    assert_int_equal(w.got.failed, 1);
    assert_false(same_file("piece"));
    transfer(true, UINT64_MAX);
    assert_int_equal(w.progress.failed, 0);
    assert_true(same_file("piece"));
}

static void what_breaks_off_goes_on(void **state)
{
    (void)state;
    put_file(w.src, "big", 9000000, 2);
    add(FILES_FILE, "big");
    transfer(false, 4000000);
    assert_false(w.a_over);
    assert_false(same_file("big"));
    transfer(false, UINT64_MAX);
    assert_true(w.a_over && w.b_over);
    assert_in_range(w.progress.moved, 4000000, 6000000);
    assert_true(same_file("big"));
    /* What is there is the beginning of something else: all of it comes. */
    remove(in(w.dst, "big"));
    put_file(w.dst, "big.thalweg-part", 100000, 7);
    transfer(false, UINT64_MAX);
    assert_int_equal(w.progress.moved, 9000000);
    assert_true(same_file("big"));
    /* It becomes shorter on the way: said, and not taken for the file. */
    remove(in(w.dst, "big"));
    transfer(false, 1000000);
    assert_ok(truncate(in(w.src, "big"), 2000000));
    for (int i = 0; i < 1000 && !(w.a_over && w.b_over); i++) {
        sending_event(w.sending, &readable);
        receiving_event(w.receiving, &readable);
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(w.progress.failed, 1);
    assert_int_equal(access(in(w.dst, "big"), F_OK), -1);
}

/* --- a sender that lies ------------------------------------------------------------------------------------ */

static void message(unsigned type, const void *body, size_t n)
{
    uint8_t head[FILES_HEAD] = { (uint8_t)type };
    tw_put_u32(head + 1, (uint32_t)n);
    side_put(&w.b, head, sizeof(head));
    side_put(&w.b, body, n);
}

static void entry(enum files_kind kind, uint64_t size, const char *name)
{
    uint8_t m[19 + 5000] = { (uint8_t)kind, 0x0f, 0xff };
    size_t n = strlen(name);
    tw_put_u64(m + 3, size);
    memcpy(m + 19, name, n);
    message(FILES_ENTRY, m, 19 + n);
}

static void begin_one(uint32_t i, uint64_t from)
{
    uint8_t m[12];
    tw_put_u32(m, i);
    tw_put_u64(m + 4, from);
    message(FILES_BEGIN, m, sizeof(m));
}

static void go(void)
{
    for (int i = 0; i < 10 && !w.b_over; i++) {
        receiving_event(w.receiving, &readable);
        uv_run(&w.loop, UV_RUN_NOWAIT);
    }
}

static unsigned entries_of(const char *folder)
{
    char command[200];
    unsigned n = 0;
    snprintf(command, sizeof(command), "find %s -mindepth 1 | wc -l", folder);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%u", &n), 1);
    pclose(p);
    return n;
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
    static const char *const bad[] = { "", "/etc/passwd", "..", ".", "../out/x", "a/../../out/x", "a//b", "a/", "/",
                                       "a/./b", "a\nb", "a\x1b[2J", "a\x7f" };
    static char long_part[300];
    (void)state;
    memset(long_part, 'x', sizeof(long_part) - 1);
    for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
        const char *name = i < ARRAY_LEN(bad) ? bad[i] : long_part;
        assert_non_null(files_name_fault(name, strlen(name)));
        end_transfer();
        open_receiver(false);
        entry(FILES_FOLDER, 0, "a");
        entry(i % 2 ? FILES_FILE : FILES_FOLDER, 0, name);
        message(FILES_LIST_END, "", 0);
        go();
        assert_true(w.b_over);
        assert_string_equal(w.b_why, "the other side says nonsense");
        assert_int_equal(entries_of(w.dst), 0);
    }
    assert_non_null(files_name_fault("a\0b", 3));
    assert_null(files_name_fault("...", 3));
    assert_null(files_name_fault("a/..b/c d", 9));
    assert_int_equal(entries_of(w.out), 0);
}

static void links_are_not_followed(void **state)
{
    static const char *const names[] = { "link/x", "link", "file", "part" };
    uint8_t hash[FILES_HASH];
    (void)state;
    put_file(w.out, "victim", 10, 1);
    char before[400];
    snprintf(before, sizeof(before), "%s", in(w.out, "victim"));
    assert_ok(symlink(w.out, in(w.dst, "link")));
    assert_ok(symlink(before, in(w.dst, "file")));
    assert_ok(symlink(before, in(w.dst, "part.thalweg-part")));
    crypto_generichash(hash, sizeof(hash), (const uint8_t *)"abc", 3, NULL, 0);
    open_receiver(true); /* even if it may replace files */
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        entry(FILES_FILE, 3, names[i]);
    message(FILES_LIST_END, "", 0);
    go();
    for (uint32_t i = 0; i < ARRAY_LEN(names) && !w.b_over; i++) {
        if (i != 3) /* these were refused when they were asked for; to begin them is nonsense */
            continue;
        begin_one(i, 0);
        message(FILES_BYTES, "abc", 3);
        message(FILES_END, hash, sizeof(hash));
        go();
    }
    assert_int_equal(receiving_progress(w.receiving)->failed, 4);
    assert_int_equal(entries_of(w.out), 1);
    struct stat st;
    assert_ok(stat(in(w.out, "victim"), &st));
    assert_int_equal(st.st_size, 10);
}

static void what_makes_no_sense_ends_it(void **state)
{
    uint8_t hash[FILES_HASH] = { 0 }, junk[100] = { 0 };
    (void)state;
    for (int i = 0; i < 12; i++) {
        end_transfer();
        open_receiver(false);
        entry(FILES_FILE, 3, "x");
        entry(FILES_FOLDER, 0, "f");
        if (i == 0)
            begin_one(0, 0); /* before the list has ended */
        message(FILES_LIST_END, "", 0);
        go();
        switch (i) {
        case 1: message(FILES_LIST_END, "", 0); break;
        case 2: entry(FILES_FILE, 3, "y"); break;
        case 3: begin_one(1, 0); break;          /* a folder */
        case 4: begin_one(2, 0); break;          /* nothing */
        case 5: begin_one(0, 2); break;          /* that much is not there */
        case 6: message(FILES_BYTES, "abc", 3); break;
        case 7: begin_one(0, 0); message(FILES_BYTES, "abcd", 4); break;
        case 8: begin_one(0, 0); message(FILES_END, hash, sizeof(hash)); break;
        case 9: begin_one(0, 0); begin_one(0, 0); break;
        case 10: message(99, junk, sizeof(junk)); break;
        case 11: message(FILES_ENTRY, junk, 3); break;
        }
        go();
        assert_true(w.b_over);
        assert_string_equal(w.b_why, "the other side says nonsense");
        assert_int_equal(access(in(w.dst, "x"), F_OK), -1);
    }
    /* A wrong hash: not under its name, and the next try begins anew. */
    end_transfer();
    open_receiver(false);
    entry(FILES_FILE, 3, "x");
    message(FILES_LIST_END, "", 0);
    go();
    begin_one(0, 0);
    message(FILES_BYTES, "abc", 3);
    message(FILES_END, hash, sizeof(hash));
    go();
    assert_false(w.b_over);
    assert_int_equal(receiving_progress(w.receiving)->failed, 1);
    assert_int_equal(access(in(w.dst, "x"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_kinds_of_files_arrive, begin, end),
        cmocka_unit_test_setup_teardown(what_breaks_off_goes_on, begin, end),
        cmocka_unit_test_setup_teardown(names_that_lead_elsewhere_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(links_are_not_followed, begin, end),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_ends_it, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
