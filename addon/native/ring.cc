// SPDX-License-Identifier: MIT
// class NativeRing: an Engine for JavaScript. It converts and nothing else: addon/ring.ts checks arguments, and
// is the only caller.
#include "ring.h"

#include <cstring>
#include <memory>

#include "engine.h"

namespace fastio_node {

namespace {

// An error with what Node's own carry: errno (negative), code and syscall.
void Throw(Napi::Env env, const char* message, int err) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("errno", Napi::Number::New(env, err));
  error.Set("code", Napi::String::New(env, fastio_errno_name(err)));
  error.Set("syscall", Napi::String::New(env, "fastio_setup"));
  error.ThrowAsJavaScriptException();
}

uint32_t Uint(const Napi::Object& from, const char* key) {
  return from.Get(key).As<Napi::Number>().Uint32Value();
}

// Takes what `from` sets; everything else stays as it is.
void ReadParams(const Napi::Object& from, struct fastio_params* params) {
  const struct {
    const char* key;
    unsigned int* to;
  } fields[] = {
      {"workers", &params->workers},       {"selfWeight", &params->self_weight},
      {"selfBatch", &params->self_batch},  {"wqWorkers", &params->wq_workers},
      {"sqEntries", &params->sq_entries},  {"cqEntries", &params->cq_entries},
      {"idleUs", &params->idle_us},        {"wqIdleUs", &params->wq_idle_us},
  };
  for (const auto& field : fields) {
    if (from.Has(field.key)) *field.to = Uint(from, field.key);
  }
  params->max_slots = kMaxOwned;
  params->backend = static_cast<enum fastio_backend>(Uint(from, "backend"));
  params->quiet = from.Get("quiet").ToBoolean();
  if (!from.Has("cpus")) return;
  const Napi::Array cpus = from.Get("cpus").As<Napi::Array>();
  for (uint32_t i = 0; i < cpus.Length() && i < FASTIO_MAX_WORKERS; i++) {
    params->worker_cpu[i] = cpus.Get(i).As<Napi::Number>().Int32Value();
  }
}

int ReadConf(const Napi::Object& from, struct fastio_params* params, struct fastio_error* error) {
  if (!from.Has("conf")) {
    fastio_params_init(params);
    return 0;
  }
  struct fastio_conf conf;
  const int ret = fastio_conf_load(&conf, from.Get("conf").As<Napi::String>().Utf8Value().c_str(), error);
  return ret < 0 ? ret : fastio_params_from_conf(params, &conf, 0, error);
}

}  // namespace

Napi::Function Ring::Define(Napi::Env env) {
  return DefineClass(env, "NativeRing",
                     {InstanceMethod<&Ring::Flush>("flush"), InstanceMethod<&Ring::Hold>("hold"),
                      InstanceMethod<&Ring::Release>("release"), InstanceMethod<&Ring::Grow>("grow"),
                      InstanceMethod<&Ring::Stats>("stats"), InstanceMethod<&Ring::Close>("close")});
}

Ring::Ring(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Ring>(info) {
  Napi::Env env = info.Env();
  const Napi::Object from = info[0].As<Napi::Object>();
  EngineOptions options = {};
  auto error = std::make_unique<struct fastio_error>();
  struct uv_loop_s* loop = nullptr;

  error->message[0] = '\0';
  options.block_bytes = Uint(from, "blockBytes");
  options.provided = Uint(from, "provided");
  napi_get_uv_event_loop(env, &loop);
  int ret = ReadConf(from, &options.params, error.get());
  if (ret == 0) {
    ReadParams(from, &options.params);
    engine_ = new Engine();
    ret = engine_->Start(loop, options, error.get());
  }
  if (ret < 0) {
    if (engine_ != nullptr) engine_->Stop();
    engine_ = nullptr;
    Throw(env, error->message[0] ? error->message : fastio_strerror(ret), ret);
    return;
  }
  dispatch_ = Napi::Persistent(info[1].As<Napi::Function>());
  napi_async_init(env, info.This(), Napi::String::New(env, "FastIO"), &context_);
  napi_add_async_cleanup_hook(env, OnEnvironmentEnds, this, &hook_);
  engine_->dispatch = [this] { return Dispatch(); };
  // The hook keeps a worker thread's loop turning until libuv's handles are closed.
  engine_->stopped = [hook = hook_] { napi_remove_async_cleanup_hook(hook); };
  Ref();  // Not collected while open.
  ExposeMemory(env, info.This().As<Napi::Object>());
}

// Returns false when the function did not run to its end: this thread is being ended. It catches what completions'
// callbacks throw and throws it in a tick, which runs before napi_make_callback returns. Plain Node-API, because
// node-addon-api aborts when it cannot make an exception of a failure.
bool Ring::Dispatch() {
  napi_env env = Env();
  napi_handle_scope scope;
  napi_value self, function, result;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  napi_status status = napi_get_reference_value(env, *this, &self);
  if (status == napi_ok) status = napi_get_reference_value(env, dispatch_, &function);
  if (status == napi_ok) status = napi_make_callback(env, context_, self, function, 0, nullptr, &result);
  bool thrown = false;
  napi_is_exception_pending(env, &thrown);
  if (thrown) {
    napi_valuetype type = napi_null;
    napi_get_and_clear_last_exception(env, &result);
    napi_typeof(env, result, &type);
    // Of a thread that is being ended it is no value at all.
    thrown = type != napi_null && type != napi_undefined && napi_fatal_exception(env, result) == napi_ok;
  }
  napi_close_handle_scope(env, scope);
  return status == napi_ok || thrown;
}

// An ArrayBuffer over memory of the engine; detached before that goes away.
Napi::ArrayBuffer Ring::View(Napi::Env env, void* data, size_t bytes) {
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, data, bytes);
  views_.push_back(Napi::Reference<Napi::ArrayBuffer>::New(buffer, 1));
  return buffer;
}

void Ring::ExposeMemory(Napi::Env env, Napi::Object self) {
  const struct fastio* fio = engine_->fio();
  Napi::Array queues = Napi::Array::New(env, fio->nr_queues);
  for (uint32_t i = 0; i < fio->nr_queues; i++) {
    const struct fastio_queue& queue = fio->queues[i];
    Napi::Object shown = Napi::Object::New(env);
    shown.Set("sq", View(env, queue.sqes, queue.sq_entries * sizeof(struct fastio_sqe)));
    shown.Set("cq", View(env, queue.cqes, queue.cq_entries * sizeof(struct fastio_cqe)));
    queues.Set(i, shown);
  }
  Napi::Array map = Napi::Array::New(env, fio->map_len);
  for (uint32_t i = 0; i < fio->map_len; i++) map.Set(i, Napi::Number::New(env, fio->map[i]));
  self.Set("queues", queues);
  self.Set("map", map);
  self.Set("workers", Napi::Number::New(env, fio->nr_workers));
  self.Set("backend",
           Napi::String::New(env, fio->backend == FASTIO_BACKEND_KERNEL ? "kernel" : "user"));
  self.Set("state", View(env, engine_->state(), engine_->state_words() * sizeof(uint32_t)));
  self.Set("givenBack",
           View(env, engine_->given_back(), engine_->given_back_entries() * sizeof(uint16_t)));
  self.Set("owned", View(env, engine_->owned(), kMaxOwned));
  self.Set("provided", ShowSegment(env, engine_->provided()));
}

Napi::Object Ring::ShowSegment(Napi::Env env, const Segment& segment) {
  Napi::Object shown = Napi::Object::New(env);
  // User addresses have at most 52 bits, so a double holds them.
  shown.Set("address", Napi::Number::New(env, static_cast<double>(reinterpret_cast<uintptr_t>(segment.base))));
  shown.Set("buffer", View(env, segment.base, segment.bytes));
  return shown;
}

Napi::Value Ring::Flush(const Napi::CallbackInfo& info) {
  if (engine_ != nullptr) engine_->Flush();
  return info.Env().Undefined();
}

Napi::Value Ring::Hold(const Napi::CallbackInfo& info) {
  if (engine_ != nullptr) engine_->Hold();
  return info.Env().Undefined();
}

Napi::Value Ring::Release(const Napi::CallbackInfo& info) {
  if (engine_ != nullptr) engine_->Release();
  return info.Env().Undefined();
}

// grow(blocks): a segment of that many blocks, or undefined when there is no memory.
Napi::Value Ring::Grow(const Napi::CallbackInfo& info) {
  const Segment* segment =
      engine_ == nullptr ? nullptr : engine_->Grow(info[0].As<Napi::Number>().Uint32Value());
  if (segment == nullptr) return info.Env().Undefined();
  return ShowSegment(info.Env(), *segment);
}

// stats(queue): the counters of a queue.
Napi::Value Ring::Stats(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object shown = Napi::Object::New(env);
  const uint32_t index = info[0].As<Napi::Number>().Uint32Value();
  struct fastio_stats stats;
  if (engine_ == nullptr || fastio_get_stats(&engine_->fio()->queues[index], &stats) < 0) return shown;
  const struct {
    const char* key;
    uint64_t value;
  } fields[] = {
      {"submitted", stats.submitted}, {"completed", stats.completed}, {"batches", stats.batches},
      {"parked", stats.parked},       {"ready", stats.ready},         {"multishot", stats.multishot},
      {"punted", stats.punted},       {"sleeps", stats.sleeps},       {"enters", stats.enters},
      {"inFlight", stats.in_flight},  {"slots", stats.slots},
  };
  for (const auto& field : fields) shown.Set(field.key, Napi::Number::New(env, static_cast<double>(field.value)));
  return shown;
}

Napi::Value Ring::Close(const Napi::CallbackInfo& info) {
  Stop();
  return info.Env().Undefined();
}

void Ring::Stop() {
  if (engine_ == nullptr) return;
  Engine* engine = engine_;
  engine_ = nullptr;
  napi_env env = Env();
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  for (auto& view : views_) {
    // A view is the only way from JavaScript to memory that is about to go.
    napi_value buffer;
    if (napi_get_reference_value(env, view, &buffer) == napi_ok) napi_detach_arraybuffer(env, buffer);
    view.Reset();
  }
  napi_close_handle_scope(env, scope);
  views_.clear();
  dispatch_.Reset();
  napi_async_destroy(env, context_);
  engine->Stop();
  Unref();
}

void Ring::OnEnvironmentEnds(napi_async_cleanup_hook_handle, void* ring) { static_cast<Ring*>(ring)->Stop(); }

}  // namespace fastio_node
