/* The installed headers, used from C++. */
#include <thalweg/ice.h>
#include <thalweg/portmap.h>
#include <thalweg/relay.h>
#include <thalweg/thalweg.h>
#include <thalweg/turn.h>
#include <thalweg/uri.h>

int main()
{
    struct tw_addr a;
    struct tw_uri u;
    return tw_addr_parse("192.0.2.1", 80, &a) || a.port != 80 ||
           tw_uri_parse("turn:example.org", &u, nullptr) || tw_bytes_str("abc").n != 3;
}
