// A small GTP-U uplink in XDP, only to try `peers.sh --ebpf` where no other program is at hand.
// It is nobody's product and its figure is no comparison: one hash map, no rules, no quota.
//
// What it does: Ethernet, IPv4 without options, UDP 2152, GTP-U G-PDU with any extension headers
// up to four, session by TEID, source of the inner IPv4 packet, packet and byte counters, outer
// headers off, XDP_TX. Everything else is XDP_PASS.
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define swap16(x) __builtin_bswap16(x)

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const adjust_head)(struct xdp_md *ctx, int by) = (void *)BPF_FUNC_xdp_adjust_head;

// Key: TEID as on the wire.
struct session {
    __u32 ue; // as on the wire
    __u32 unused;
    __u64 packets;
    __u64 bytes;
};

struct {
    int (*type)[BPF_MAP_TYPE_HASH];
    int (*max_entries)[1024];
    __u32 *key;
    struct session *value;
} sessions SEC(".maps");

struct outer {
    __u8 to[6], from[6];
    __u16 type;
    __u8 version, tos;
    __u16 length, id, fragment;
    __u8 ttl, protocol;
    __u16 sum;
    __u32 source, destination;
    __u16 source_port, destination_port, udp_length, udp_sum;
    __u8 flags, message;
    __u16 gtp_length;
    __u32 teid;
} __attribute__((packed));

struct inner {
    __u8 version, tos;
    __u16 length, id, fragment;
    __u8 ttl, protocol;
    __u16 sum;
    __u32 source, destination;
} __attribute__((packed));

SEC("xdp") int gtpu_uplink(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct outer *outer = data;
    if (data + sizeof *outer + 4 > end || outer->type != swap16(0x0800) ||
        outer->version != 0x45 || outer->protocol != 17 ||
        outer->destination_port != swap16(2152) || outer->message != 255)
        return XDP_PASS;

    __u32 head = sizeof *outer;
    if (outer->flags & 7) {
        __u8 *next = data + head + 3;
        head += 4;
        for (int i = 0; i < 4 && *next; i++) {
            __u8 *extension = data + head;
            if ((void *)extension + 1 > end)
                return XDP_PASS;
            __u32 length = *extension * 4;
            if (length == 0)
                return XDP_PASS;
            head += length;
            if (head > 512)
                return XDP_PASS;
            next = data + (head - 1);
            // The verifier takes a bound of this very pointer only.
            asm volatile("" : "+r"(next));
            if ((void *)next + 1 > end)
                return XDP_PASS;
        }
    }
    struct inner *inner = data + head;
    if ((void *)(inner + 1) > end)
        return XDP_PASS;

    struct session *session = map_lookup(&sessions, &outer->teid);
    if (!session || session->ue != inner->source)
        return XDP_PASS;
    __sync_fetch_and_add(&session->packets, 1);
    __sync_fetch_and_add(&session->bytes, swap16(inner->length));

    __u8 ethernet[14];
    __builtin_memcpy(ethernet, outer->from, 6);
    __builtin_memcpy(ethernet + 6, outer->to, 6);
    __builtin_memcpy(ethernet + 12, &outer->type, 2);
    if (adjust_head(ctx, head - sizeof ethernet))
        return XDP_PASS;
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if (data + sizeof ethernet > end)
        return XDP_PASS;
    __builtin_memcpy(data, ethernet, sizeof ethernet);
    return XDP_TX;
}

char terms[] SEC("license") = "Apache-2.0";
