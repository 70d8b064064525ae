/* A narrow door to DPDK. Most of its packet functions are inline in C headers, so they have no
 * symbol that Rust could link; and its structures change between versions, so none leaves this
 * file. Every status is 0 or a negative errno. src/shim.rs documents each function. */
#include <errno.h>
#include <string.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <rte_version.h>

#define BURST 32
struct view { uint8_t *data; uint32_t len; uint32_t whole; };
_Static_assert(RTE_ETH_NAME_MAX_LEN <= 64, "names are given 64 bytes");

static int status(int result) { return result < 0 ? (rte_errno > 0 ? -rte_errno : -EIO) : 0; }

const char *qlink_dpdk_version(void) { return rte_version(); }
int qlink_dpdk_start(int argc, char **argv) { return status(rte_eal_init(argc, argv)); }
int qlink_dpdk_stop(void) { return rte_eal_cleanup(); }
int qlink_dpdk_thread_enter(void) { return status(rte_thread_register()); }
void qlink_dpdk_thread_leave(void) { rte_thread_unregister(); }

int qlink_dpdk_device_name(uint16_t port, char *name) {
	return rte_eth_dev_is_valid_port(port) ? rte_eth_dev_get_name_by_port(port, name) : -ENODEV;
}

void *qlink_dpdk_pool_new(const char *name, unsigned packets, uint16_t room, uint16_t port) {
	return rte_pktmbuf_pool_create(name, packets, 256, 0, RTE_PKTMBUF_HEADROOM + room,
				       rte_eth_dev_socket_id(port));
}
void qlink_dpdk_pool_free(void *pool) { rte_mempool_free(pool); }
unsigned qlink_dpdk_pool_used(const void *pool) { return rte_mempool_in_use_count(pool); }

int qlink_dpdk_port_start(uint16_t port, void *pool, uint16_t rx, uint16_t tx, int all) {
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	int bad = rte_eth_dev_info_get(port, &info);
	if (bad) return bad;
	/* Every packet sent comes from the one pool and has one owner. */
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	if ((bad = rte_eth_dev_configure(port, 1, 1, &conf))) return bad;
	if ((bad = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx))) return bad;
	int socket = rte_eth_dev_socket_id(port);
	if ((bad = rte_eth_rx_queue_setup(port, 0, rx, socket, NULL, pool))) return bad;
	if ((bad = rte_eth_tx_queue_setup(port, 0, tx, socket, NULL))) return bad;
	if ((bad = rte_eth_dev_start(port))) return bad;
	bad = all ? rte_eth_promiscuous_enable(port) : 0;
	return bad == -ENOTSUP ? 0 : bad;
}
int qlink_dpdk_port_facts(uint16_t port, uint8_t *mac, uint16_t *mtu) {
	struct rte_ether_addr address;
	int bad = rte_eth_macaddr_get(port, &address);
	if (!bad) memcpy(mac, address.addr_bytes, 6);
	return bad ? bad : rte_eth_dev_get_mtu(port, mtu);
}
int qlink_dpdk_port_stats(uint16_t port, uint64_t *out) {
	struct rte_eth_stats s;
	int bad = rte_eth_stats_get(port, &s);
	if (bad) return bad;
	uint64_t all[8] = {s.ipackets, s.ibytes, s.imissed, s.ierrors, s.rx_nombuf,
			   s.opackets, s.obytes, s.oerrors};
	memcpy(out, all, sizeof(all));
	return 0;
}
int qlink_dpdk_port_stop(uint16_t port) {
	int bad = rte_eth_dev_stop(port);
	return bad ? bad : rte_eth_dev_close(port);
}

uint16_t qlink_dpdk_receive(uint16_t port, void **packets, struct view *views) {
	struct rte_mbuf **mbufs = (struct rte_mbuf **)packets;
	uint16_t count = rte_eth_rx_burst(port, 0, mbufs, BURST);
	for (uint16_t i = 0; i < count; i++) {
		views[i] = (struct view){rte_pktmbuf_mtod(mbufs[i], uint8_t *),
					 rte_pktmbuf_data_len(mbufs[i]), rte_pktmbuf_pkt_len(mbufs[i])};
		rte_prefetch0(views[i].data);
	}
	return count;
}
uint16_t qlink_dpdk_allocate(void *pool, void **packets, struct view *views, uint16_t count) {
	struct rte_mbuf **mbufs = (struct rte_mbuf **)packets;
	/* In bulk or, near the pool's end, one by one. */
	if (rte_pktmbuf_alloc_bulk(pool, mbufs, count))
		for (uint16_t i = 0; i < count; i++)
			if (!(mbufs[i] = rte_pktmbuf_alloc(pool))) { count = i; break; }
	for (uint16_t i = 0; i < count; i++)
		views[i] = (struct view){rte_pktmbuf_mtod(mbufs[i], uint8_t *),
					 rte_pktmbuf_tailroom(mbufs[i]), 0};
	return count;
}
uint16_t qlink_dpdk_send(uint16_t port, void **packets, const struct view *views, uint16_t count) {
	struct rte_mbuf **mbufs = (struct rte_mbuf **)packets;
	for (uint16_t i = 0; i < count; i++)
		mbufs[i]->pkt_len = mbufs[i]->data_len = (uint16_t)views[i].len;
	return rte_eth_tx_burst(port, 0, mbufs, count);
}
void qlink_dpdk_release(void **packets, unsigned count) {
	rte_pktmbuf_free_bulk((struct rte_mbuf **)packets, count);
}
