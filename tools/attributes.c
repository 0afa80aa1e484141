/* Prints the attribute table: as a page of the documentation, or with --dictionary as one for the
 * fuzzers. */
#include <stdio.h>
#include <string.h>

#include <thalweg/stun.h>

static void print_word(const char *name)
{
    for (; *name; name++)
        putchar(*name == '-' || *name == ' ' ? '_' : *name);
}

static void print_entry(const char *name, unsigned v)
{
    print_word(name);
    printf("=\"\\x%02x\\x%02x\"\n", v >> 8 & 255, v & 255);
}

static void print_dictionary(void)
{
    for (int a = 0; a < TW_STUN_A_COUNT; a++)
        print_entry(tw_stun_attr_infos[a].name, tw_stun_attr_infos[a].type);
#define METHOD(name, number, text) print_entry(text, number);
    TW_STUN_METHODS(METHOD)
#undef METHOD
    puts("cookie=\"\\x21\\x12\\xa4\\x42\"\nnonce=\"" TW_STUN_NONCE_COOKIE "\"");
}

static void print_page(void)
{
    static const char *kinds[] = {
        [TW_STUN_K_BYTES] = "bytes", [TW_STUN_K_TEXT] = "text", [TW_STUN_K_FLAG] = "flag",
        [TW_STUN_K_U8] = "8-bit number", [TW_STUN_K_U16] = "16-bit number",
        [TW_STUN_K_U32] = "32-bit number", [TW_STUN_K_U64] = "64-bit number",
        [TW_STUN_K_ADDR] = "address", [TW_STUN_K_XADDR] = "XORed address",
        [TW_STUN_K_ERROR] = "error code and reason", [TW_STUN_K_TYPES] = "list of types",
        [TW_STUN_K_ALGO] = "algorithm", [TW_STUN_K_ALGOS] = "list of algorithms",
        [TW_STUN_K_ICMP] = "ICMP type, code, data",
    };
    puts("# STUN attributes\n\nMade from the table in `include/thalweg/stun.h`.\n");
    puts("| type | attribute | value | bytes | defined in |\n|---|---|---|---|---|");
    for (int a = 0; a < TW_STUN_A_COUNT; a++) {
        const struct tw_stun_attr_info *i = &tw_stun_attr_infos[a];
        printf("| 0x%04x | %s | %s | ", i->type, i->name, kinds[i->kind]);
        printf(i->min == i->max ? "%u" : "%u to %u", i->min, i->max);
        printf(" | %s |\n", i->defined_in);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--dictionary") == 0)
        print_dictionary();
    else
        print_page();
    return 0;
}
