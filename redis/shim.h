/* SPDX-License-Identifier: MIT */
/*
 * What differs between Valkey 8.1 and Redis 8.0, so that everything else is written once. Define
 * FASTIO_VALKEY or FASTIO_REDIS. The structures are the server's own, so an object built from this is
 * for exactly one version: see check_build().
 */
#ifndef FASTIO_REDIS_SHIM_H
#define FASTIO_REDIS_SHIM_H

#ifdef FASTIO_VALKEY
#define VALKEYMODULE_CORE_MODULE
#else
#define REDISMODULE_CORE_MODULE
#endif

#include <stdbool.h>

/*
 * What the other server does not have. Weak, so that a module in the wrong server lives long enough to say so
 * itself: check_build() comes before anything is called.
 */
#ifdef FASTIO_VALKEY
#pragma weak aePoll
#pragma weak aeSetCustomPollProc
#pragma weak anetRetryAcceptOnError
#pragma weak valkey_calloc
#pragma weak valkey_free
#else
#pragma weak anetAcceptFailureNeedsRetry
#pragma weak zcalloc
#pragma weak zfree
#endif

#include "server.h"
#include "connection.h"
#include "connhelpers.h"

#ifdef FASTIO_VALKEY

#define MODULE(name) ValkeyModule_##name
#define MODULE_TYPE(name) ValkeyModule##name
#define MODULE_CONST(name) VALKEYMODULE_##name
#define SHIM_SERVER "Valkey"
#define SHIM_VERSION VALKEY_VERSION
#define SHIM_VERSION_NUM VALKEY_VERSION_NUM
/* What a timer's function returns. */
typedef long long shim_timer;
#define SHIM_PENDING_ARGS void
#define SHIM_PENDING_HERE true
#define SHIM_CREATE_ARGS int fd, void *priv

static inline connection *shim_create_plain(ConnectionType *tcp, int fd)
{
	return tcp->conn_create_accepted(fd, NULL);
}

static inline void shim_init_connection(connection *conn)
{
	conn->iovcnt = IOV_MAX;
}

static inline void shim_accepted(connection *conn, char *ip)
{
	struct ClientFlags flags = { 0 };

	acceptCommonHandler(conn, flags, ip);
}

static inline void shim_keep_alive(int fd)
{
	if (server.tcpkeepalive)
		anetKeepAlive(NULL, fd, server.tcpkeepalive);
}

static inline bool shim_retry_accept(int err)
{
	return anetRetryAcceptOnError(err);
}

/* Clients whose socket a child process uses, or that are read in the middle of a command. */
static inline bool shim_needs_system_calls(const client *c)
{
	return c->flag.lua_debug || c->flag.repl_rdb_channel;
}

#else

#define MODULE(name) RedisModule_##name
#define MODULE_TYPE(name) RedisModule##name
#define MODULE_CONST(name) REDISMODULE_##name
#define SHIM_SERVER "Redis"
#define SHIM_VERSION REDIS_VERSION
#define SHIM_VERSION_NUM REDIS_VERSION_NUM
typedef int shim_timer;
#define SHIM_PENDING_ARGS struct aeEventLoop *el
/* Threads that do I/O ask as well; the connections are the main thread's. */
#define SHIM_PENDING_HERE (el == server.el)
#define SHIM_CREATE_ARGS struct aeEventLoop *el, int fd, void *priv

static inline connection *shim_create_plain(ConnectionType *tcp, int fd)
{
	return tcp->conn_create_accepted(server.el, fd, NULL);
}

static inline void shim_init_connection(connection *conn)
{
	conn->el = server.el;
	conn->iovcnt = IOV_MAX;
}

static inline void shim_accepted(connection *conn, char *ip)
{
	acceptCommonHandler(conn, 0, ip);
}

static inline void shim_keep_alive(int fd)
{
	(void)fd; /* acceptCommonHandler() does it */
}

static inline bool shim_retry_accept(int err)
{
	return anetAcceptFailureNeedsRetry(err);
}

static inline bool shim_needs_system_calls(const client *c)
{
	return c->flags & (CLIENT_LUA_DEBUG | CLIENT_REPL_RDB_CHANNEL);
}

#endif

/* Not in the servers' headers. */
extern int ProcessingEventsWhileBlocked;

#endif
