/*
 * Everything of DPDK that the Rust side sees.
 *
 * Three kinds of things: headers, from which bindgen takes the functions that build.rs lists; constants that are
 * macros or members of anonymous enums in those headers; and declarations of the functions in shim.c, which exist
 * because DPDK offers them as static inline functions or macros only.
 */
#ifndef WEIR_DPDK_WRAPPER_H
#define WEIR_DPDK_WRAPPER_H

#include <rte_config.h> /* first: the other headers rely on it being there */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_log.h>
#include <rte_version.h>

/* The value is the header's own, never a copy of it. */
#define EXPORT(name) static const uint64_t weir_##name = (uint64_t)(name)

EXPORT(RTE_MAX_ETHPORTS);
EXPORT(RTE_MAX_LCORE);
EXPORT(RTE_ETH_DEV_NO_OWNER);
EXPORT(RTE_ETH_NAME_MAX_LEN);
EXPORT(RTE_ETH_RETA_GROUP_SIZE);
EXPORT(RTE_MEMPOOL_NAMESIZE);
EXPORT(RTE_MEMPOOL_CACHE_MAX_SIZE);
EXPORT(RTE_PKTMBUF_HEADROOM);

EXPORT(RTE_ETH_RX_OFFLOAD_SCATTER);
EXPORT(RTE_ETH_TX_OFFLOAD_MULTI_SEGS);

EXPORT(RTE_ETH_RSS_IP);
EXPORT(RTE_ETH_RSS_TCP);
EXPORT(RTE_ETH_RSS_UDP);

EXPORT(RTE_ETH_LINK_UP);
EXPORT(RTE_ETH_LINK_FULL_DUPLEX);
EXPORT(RTE_ETH_SPEED_NUM_UNKNOWN);

/* Where the fields of the first cache line of a mbuf are; src/lib.rs compares its own struct with them. */
#define EXPORT_MBUF_FIELD(name, member)                                                                               \
	static const uint64_t weir_mbuf_offset_##name = offsetof(struct rte_mbuf, member);                            \
	static const uint64_t weir_mbuf_size_##name = sizeof(((struct rte_mbuf *)0)->member)

EXPORT_MBUF_FIELD(buf_addr, buf_addr);
EXPORT_MBUF_FIELD(data_off, data_off);
EXPORT_MBUF_FIELD(refcnt, refcnt);
EXPORT_MBUF_FIELD(nb_segs, nb_segs);
EXPORT_MBUF_FIELD(port, port);
EXPORT_MBUF_FIELD(ol_flags, ol_flags);
EXPORT_MBUF_FIELD(packet_type, packet_type);
EXPORT_MBUF_FIELD(pkt_len, pkt_len);
EXPORT_MBUF_FIELD(data_len, data_len);
EXPORT_MBUF_FIELD(vlan_tci, vlan_tci);
EXPORT_MBUF_FIELD(hash_rss, hash.rss);
EXPORT_MBUF_FIELD(buf_len, buf_len);
EXPORT_MBUF_FIELD(pool, pool);

/* rte_errno of the calling thread. */
int weir_errno(void);
/* rte_lcore_id(): UINT32_MAX on a thread that is not EAL's. */
uint32_t weir_lcore_id(void);
/* SOCKET_ID_ANY as the int the allocation functions take. */
int weir_socket_id_any(void);
uint64_t weir_rdtsc(void);
void weir_prefetch0(const void *address);

struct rte_mbuf *weir_mbuf_alloc(struct rte_mempool *pool);
int weir_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t count);
void weir_mbuf_free(struct rte_mbuf *mbuf);
/* Cuts a packet to `len` octets, no more than it has: the segments behind its end go back to their pools. */
void weir_mbuf_cut(struct rte_mbuf *mbuf, uint32_t len);
/* Copies octets of a packet, which are all there, out of whatever segments they lie in. */
void weir_mbuf_copy_out(const struct rte_mbuf *mbuf, uint32_t offset, uint32_t len, uint8_t *to);

uint16_t weir_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t weir_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* struct rte_eth_link is bit fields in 22.11 and a union of them from 24.07 on. */
int weir_link_get_nowait(uint16_t port, uint32_t *speed_mbps, uint8_t *duplex, uint8_t *status);

/* Adds a receive queue's interrupt to what the calling thread waits for, or takes it out again. */
int weir_rx_intr_watch(uint16_t port, uint16_t queue, bool on);
/* Waits for an interrupt of those queues; returns at a signal too. */
int weir_rx_intr_wait(int timeout_ms);

/* rte_softrss(): Toeplitz of `count` words in host order; `key` has 4 octets more than those. Tests compare with it. */
uint32_t weir_softrss(uint32_t *words, uint32_t count, const uint8_t *key);

/* Takes what is written to a stream, as fopencookie(3) has it: octets taken, never fewer. */
typedef intptr_t weir_log_write(void *cookie, const char *text, size_t size);
/* Has EAL's log go there. -1: the C library can't. */
int weir_log_open(weir_log_write *write);
/* Has stdout and stderr of the C library go there as well, if EAL's log does. */
void weir_log_take_streams(void);

/* The number of objects `pool` was made with. */
uint32_t weir_mempool_size(const struct rte_mempool *pool);

#endif
