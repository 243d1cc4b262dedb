// SPDX-License-Identifier: MIT
// What a server needs of sockets besides FastIO's operations, none of it per request. Everything returns a
// count or -errno, as the rest of FastIO does; addon/server.ts makes errors of them.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ring.h"

namespace fastio_node {

namespace {

int IntOf(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

// The address and its length, or 0 when `host` is no numeric address.
socklen_t MakeAddress(const std::string& host, int port, struct sockaddr_storage* address) {
  memset(address, 0, sizeof(*address));
  auto* v4 = reinterpret_cast<struct sockaddr_in*>(address);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    return sizeof(*v4);
  }
  auto* v6 = reinterpret_cast<struct sockaddr_in6*>(address);
  if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    return sizeof(*v6);
  }
  return 0;
}

int SetOption(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int Listen(const struct sockaddr_storage& address, socklen_t length, int backlog, bool reuse_port, bool v6_only) {
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int ret = SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (ret == 0 && reuse_port) ret = SetOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (ret == 0 && address.ss_family == AF_INET6) ret = SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only);
  if (ret == 0 && bind(fd, reinterpret_cast<const struct sockaddr*>(&address), length) < 0) ret = -errno;
  if (ret == 0 && listen(fd, backlog) < 0) ret = -errno;
  if (ret == 0) return fd;
  close(fd);
  return ret;
}

// listen(host, port, backlog, reusePort, ipv6Only)
Napi::Value ListenCall(const Napi::CallbackInfo& info) {
  struct sockaddr_storage address;
  const socklen_t length = MakeAddress(info[0].As<Napi::String>().Utf8Value(), IntOf(info[1]), &address);
  const int ret = length == 0 ? -EINVAL
                              : Listen(address, length, IntOf(info[2]), info[3].ToBoolean(), info[4].ToBoolean());
  return Napi::Number::New(info.Env(), ret);
}

// endpoint(fd, peer): { address, family, port }, or -errno
Napi::Value Endpoint(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  struct sockaddr_storage address = {};
  auto* plain = reinterpret_cast<struct sockaddr*>(&address);
  socklen_t length = sizeof(address);
  const int fd = IntOf(info[0]);
  const int ret = info[1].ToBoolean() ? getpeername(fd, plain, &length) : getsockname(fd, plain, &length);
  if (ret < 0) return Napi::Number::New(env, -errno);
  char text[INET6_ADDRSTRLEN] = "";
  const bool v6 = address.ss_family == AF_INET6;
  if (!v6 && address.ss_family != AF_INET) return Napi::Number::New(env, -EAFNOSUPPORT);
  const auto* v4_address = reinterpret_cast<const struct sockaddr_in*>(&address);
  const auto* v6_address = reinterpret_cast<const struct sockaddr_in6*>(&address);
  inet_ntop(address.ss_family,
            v6 ? static_cast<const void*>(&v6_address->sin6_addr) : static_cast<const void*>(&v4_address->sin_addr),
            text, sizeof(text));
  Napi::Object shown = Napi::Object::New(env);
  shown.Set("address", Napi::String::New(env, text));
  shown.Set("family", Napi::String::New(env, v6 ? "IPv6" : "IPv4"));
  shown.Set("port", Napi::Number::New(env, ntohs(v6 ? v6_address->sin6_port : v4_address->sin_port)));
  return shown;
}

// shutdown(fd): no more will be sent
Napi::Value Shutdown(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), shutdown(IntOf(info[0]), SHUT_WR) < 0 ? -errno : 0);
}

// stopListening(fd): connections are refused from now on
Napi::Value StopListening(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), shutdown(IntOf(info[0]), SHUT_RD) < 0 ? -errno : 0);
}

// closeNow(fd): for descriptors that no ring has an operation or a slot for
Napi::Value CloseNow(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), close(IntOf(info[0])) < 0 ? -errno : 0);
}

// setNoDelay(fd, on)
Napi::Value SetNoDelay(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), SetOption(IntOf(info[0]), IPPROTO_TCP, TCP_NODELAY, info[1].ToBoolean()));
}

// setKeepAlive(fd, on, idleSeconds); 0 s keeps the system's idle time
Napi::Value SetKeepAlive(const Napi::CallbackInfo& info) {
  const int fd = IntOf(info[0]);
  const int idle_s = IntOf(info[2]);
  int ret = SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, info[1].ToBoolean());
  if (ret == 0 && idle_s > 0) ret = SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
  return Napi::Number::New(info.Env(), ret);
}

}  // namespace

void DefineSocketFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("listen", Napi::Function::New<ListenCall>(env, "listen"));
  exports.Set("endpoint", Napi::Function::New<Endpoint>(env, "endpoint"));
  exports.Set("shutdown", Napi::Function::New<Shutdown>(env, "shutdown"));
  exports.Set("stopListening", Napi::Function::New<StopListening>(env, "stopListening"));
  exports.Set("closeNow", Napi::Function::New<CloseNow>(env, "closeNow"));
  exports.Set("setNoDelay", Napi::Function::New<SetNoDelay>(env, "setNoDelay"));
  exports.Set("setKeepAlive", Napi::Function::New<SetKeepAlive>(env, "setKeepAlive"));
}

}  // namespace fastio_node
