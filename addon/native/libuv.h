// SPDX-License-Identifier: MIT
// The part of libuv's C interface that the addon calls. Node exports it from its executable and keeps its
// ABI within libuv 1.x; handles are opaque here and their size is asked at run time, so one build fits all.
#pragma once

#include <cstddef>

extern "C" {

struct uv_loop_s;
typedef struct uv_handle_s uv_handle_t;
typedef void (*uv_close_cb)(uv_handle_t* handle);
typedef void (*uv_poll_cb)(uv_handle_t* handle, int status, int events);
typedef void (*uv_prepare_cb)(uv_handle_t* handle);

// enum uv_handle_type and enum uv_poll_event of uv.h, whose values are part of the ABI.
constexpr int UV_POLL_HANDLE = 8;
constexpr int UV_PREPARE_HANDLE = 9;
constexpr int UV_READABLE_EVENT = 1;

size_t uv_handle_size(int type);
void* uv_handle_get_data(const uv_handle_t* handle);
void uv_handle_set_data(uv_handle_t* handle, void* data);
void uv_close(uv_handle_t* handle, uv_close_cb callback);
void uv_ref(uv_handle_t* handle);
void uv_unref(uv_handle_t* handle);
int uv_poll_init(struct uv_loop_s* loop, uv_handle_t* handle, int fd);
int uv_poll_start(uv_handle_t* handle, int events, uv_poll_cb callback);
int uv_poll_stop(uv_handle_t* handle);
int uv_prepare_init(struct uv_loop_s* loop, uv_handle_t* handle);
int uv_prepare_start(uv_handle_t* handle, uv_prepare_cb callback);
}
