/* SPDX-License-Identifier: GPL-2.0 */
/* Loopback sockets and recognisable data for the tests. Helpers that fail end the running test. */
#ifndef FASTIO_TESTS_NET_H
#define FASTIO_TESTS_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A non-blocking TCP listener on a free loopback port, which @addr receives. */
int net_listen(struct sockaddr_in *addr);

/* A blocking TCP connection to @addr; its reads give up after ten seconds (times slowness). */
int net_connect(const struct sockaddr_in *addr);

/* A TCP connection over loopback: @pair[0] for the code under test, @pair[1] for the peer. */
void net_pair(int pair[2]);

/* Closes a TCP socket with a reset instead of an end. */
void net_reset(int fd);

/* All bytes or a failed test. */
void net_write(int fd, const void *data, size_t bytes);
void net_read(int fd, void *data, size_t bytes);

/* Whether @fd is at its end within ten seconds (times slowness). */
bool net_at_end(int fd);

/* Whether @fd is at its end or reset within ten seconds (times slowness). */
bool net_is_gone(int fd);

/* Sets the send buffer to the least there is and fills it, so that a send has to wait. Return: bytes it took. */
size_t net_clog(int fd);

/* Byte number @position of stream @stream: other streams and other positions differ. */
static inline uint8_t pattern_byte(uint32_t stream, uint64_t position)
{
	uint64_t mixed = (position + 1) * 0x9e3779b97f4a7c15ULL ^ (stream + 1) * 0xd1342543de82ef95ULL;

	return (mixed >> 32 ^ mixed >> 56) & 0xff;
}

/* Fills memory with bytes @position.. of stream @stream. */
void pattern_fill(void *data, size_t bytes, uint32_t stream, uint64_t position);

/* Checks that memory holds bytes @position.. of stream @stream; the first wrong byte fails the test. */
bool pattern_check(const void *data, size_t bytes, uint32_t stream, uint64_t position);

#endif
