/*
 * Functions for what DPDK offers only as static inline functions or macros.
 *
 * Those on the packet path (rx_burst, tx_burst) are called once for a burst; the fields of a mbuf are read in Rust.
 */
#define _GNU_SOURCE /* fopencookie */

#include "wrapper.h"

#include <string.h>

#include <stdio.h>

#include <rte_cycles.h>
#include <rte_interrupts.h>
#include <rte_prefetch.h>
#include <rte_thash.h>

int weir_errno(void)
{
	return rte_errno;
}

uint32_t weir_lcore_id(void)
{
	return rte_lcore_id();
}

int weir_socket_id_any(void)
{
	return SOCKET_ID_ANY;
}

uint64_t weir_rdtsc(void)
{
	return rte_rdtsc();
}

void weir_prefetch0(const void *address)
{
	rte_prefetch0(address);
}

struct rte_mbuf *weir_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int weir_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void weir_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void weir_mbuf_cut(struct rte_mbuf *mbuf, uint32_t len)
{
	struct rte_mbuf *last = mbuf;
	uint32_t left = len;
	uint16_t segments = 1;

	while (left > last->data_len && last->next != NULL) {
		left -= last->data_len;
		last = last->next;
		segments++;
	}
	last->data_len = (uint16_t)left;
	rte_pktmbuf_free(last->next);
	last->next = NULL;
	mbuf->nb_segs = segments;
	mbuf->pkt_len = len;
}

void weir_mbuf_copy_out(const struct rte_mbuf *mbuf, uint32_t offset, uint32_t len, uint8_t *to)
{
	const void *from = rte_pktmbuf_read(mbuf, offset, len, to);

	if (from != NULL && from != to)
		memcpy(to, from, len);
}

uint16_t weir_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t weir_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int weir_link_get_nowait(uint16_t port, uint32_t *speed_mbps, uint8_t *duplex, uint8_t *status)
{
	struct rte_eth_link link = {0};
	int rc = rte_eth_link_get_nowait(port, &link);

	*speed_mbps = link.link_speed;
	*duplex = link.link_duplex;
	*status = link.link_status;
	return rc;
}

int weir_rx_intr_watch(uint16_t port, uint16_t queue, bool on)
{
	return rte_eth_dev_rx_intr_ctl_q(port, queue, RTE_EPOLL_PER_THREAD, on ? RTE_INTR_EVENT_ADD : RTE_INTR_EVENT_DEL,
					 NULL);
}

int weir_rx_intr_wait(int timeout_ms)
{
	struct rte_epoll_event events[16];

	return rte_epoll_wait_interruptible(RTE_EPOLL_PER_THREAD, events, 16, timeout_ms);
}

static FILE *weir_log;

int weir_log_open(weir_log_write *write)
{
	cookie_io_functions_t functions = {.write = write};

	weir_log = fopencookie(NULL, "w", functions);
	if (weir_log == NULL)
		return -1;
	setvbuf(weir_log, NULL, _IOLBF, 0);
	return rte_openlog_stream(weir_log);
}

void weir_log_take_streams(void)
{
#ifdef __GLIBC__ /* elsewhere these are no variables */
	if (weir_log != NULL) {
		stdout = weir_log;
		stderr = weir_log;
	}
#endif
}

uint32_t weir_mempool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

uint32_t weir_softrss(uint32_t *words, uint32_t count, const uint8_t *key)
{
	return rte_softrss(words, count, key);
}
