/* Prints a libFuzzer dictionary made of the attribute table and the methods. */
#include <stdio.h>

#include <thalweg/stun.h>

static void entry(const char *name, unsigned v)
{
    for (; *name; name++)
        putchar(*name == '-' || *name == ' ' ? '_' : *name);
    printf("=\"\\x%02x\\x%02x\"\n", v >> 8 & 255, v & 255);
}

int main(void)
{
    for (int a = 0; a < TW_STUN_A_COUNT; a++)
        entry(tw_stun_attr_infos[a].name, tw_stun_attr_infos[a].type);
#define METHOD(name, number, text) entry(text, number);
    TW_STUN_METHODS(METHOD)
#undef METHOD
    puts("cookie=\"\\x21\\x12\\xa4\\x42\"\nnonce=\"obMatJos2\"");
    return 0;
}
