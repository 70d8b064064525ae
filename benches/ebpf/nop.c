// The floor of a test run: a program that does nothing.
#include <linux/bpf.h>

__attribute__((section("xdp"), used)) int nop(struct xdp_md *ctx)
{
    return XDP_TX;
}
