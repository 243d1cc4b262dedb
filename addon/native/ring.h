// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

#include <vector>

namespace fastio_node {

class Engine;
struct Segment;

class Ring : public Napi::ObjectWrap<Ring> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Ring(const Napi::CallbackInfo& info);

 private:
  Napi::Value Flush(const Napi::CallbackInfo& info);
  Napi::Value Hold(const Napi::CallbackInfo& info);
  Napi::Value Release(const Napi::CallbackInfo& info);
  Napi::Value Grow(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::ArrayBuffer View(Napi::Env env, void* data, size_t bytes);
  Napi::Object ShowSegment(Napi::Env env, const Segment& segment);
  void ExposeMemory(Napi::Env env, Napi::Object self);
  bool Dispatch();
  void Stop();
  static void OnEnvironmentEnds(napi_async_cleanup_hook_handle handle, void* ring);

  // Null when closed. Deletes itself when it has stopped.
  Engine* engine_ = nullptr;
  Napi::FunctionReference dispatch_;
  napi_async_context context_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::vector<Napi::Reference<Napi::ArrayBuffer>> views_;
};

// Adds listen(), endpoint(), shutdown(), stopListening(), closeNow(), setNoDelay() and setKeepAlive().
void DefineSocketFunctions(Napi::Env env, Napi::Object exports);

}  // namespace fastio_node
