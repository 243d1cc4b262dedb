// SPDX-License-Identifier: MIT
// What one Ring consists of below JavaScript: libfastio's rings, the memory operations use, and the two libuv
// handles that drive it. It knows nothing of JavaScript but a function to call when completions are there.
#pragma once

#include <fastio.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "libuv.h"

namespace fastio_node {

// Words of a queue's state, shared with addon/queue.ts. The indices run freely, as those of the rings do.
enum StateWord : uint32_t {
  kSqTail,       // JavaScript: SQEs written so far
  kSqHead,       // here: SQEs taken by the worker, when last looked at
  kCqHead,       // JavaScript: CQEs handled so far
  kCqTail,       // here: CQEs posted, when last looked at
  kGivenBack,    // JavaScript: ids in the list of provided buffers to give back; here: set to 0
  kFailed,       // here, of queue 0 only: errno, when the workers are gone and no completion will come
  kStateWords = 16,
};

// Descriptors above this are never owned by a ring; as libfastio's max_slots.
constexpr uint32_t kMaxOwned = 65536;

struct EngineOptions {
  struct fastio_params params;
  uint32_t block_bytes;  // of provided buffers and of blocks, a power of two
  uint32_t provided;     // buffers provided to each queue, a power of two
};

struct Segment {
  uint8_t* base;
  size_t bytes;
};

class Engine {
 public:
  // Sets everything up on `loop`. Returns 0 or -errno with a reason in `error`; the engine must then be
  // stopped all the same.
  int Start(struct uv_loop_s* loop, const EngineOptions& options, struct fastio_error* error);

  // Ends workers and operations, frees rings and memory, and closes what `owned` names. The engine deletes
  // itself once libuv let go of its handles, after calling `stopped`.
  void Stop();

  // Makes visible what JavaScript wrote: gives buffers and CQEs back, submits SQEs.
  void Flush();

  // More memory for blocks. Returns nullptr when there is none.
  const Segment* Grow(uint32_t blocks);

  void Hold() { uv_ref(poll_); }
  void Release() { uv_unref(poll_); }
  bool is_running() const { return fio_ != nullptr; }
  struct fastio* fio() const { return fio_; }
  uint32_t* state() { return state_.data(); }
  uint16_t* given_back() { return given_back_.data(); }
  uint8_t* owned() { return owned_.data(); }
  const Segment& provided() const { return segments_.front(); }
  uint32_t state_words() const { return static_cast<uint32_t>(state_.size()); }
  uint32_t given_back_entries() const { return static_cast<uint32_t>(given_back_.size()); }

  std::function<bool()> dispatch;  // completions are there: handles all; false when it could not
  std::function<void()> stopped;   // libuv's handles are closed

 private:
  ~Engine() = default;
  static void OnPoll(uv_handle_t* handle, int status, int events);
  static void OnPrepare(uv_handle_t* handle);
  static void OnClosed(uv_handle_t* handle);
  int StartHandles(struct uv_loop_s* loop);
  int ProvideBuffers();
  void Provide(uint32_t queue, uint16_t id);
  bool Collect();
  void CloseUnreaped();
  void HandleGone();

  struct fastio* fio_ = nullptr;
  uv_handle_t* poll_ = nullptr;
  uv_handle_t* prepare_ = nullptr;
  bool poll_open_ = false;
  bool prepare_open_ = false;
  int open_handles_ = 0;
  bool stopping_ = false;
  EngineOptions options_ = {};
  std::vector<struct fastio_bufs> groups_;
  std::vector<Segment> segments_;
  std::vector<uint32_t> state_;
  std::vector<uint16_t> given_back_;
  std::vector<uint8_t> owned_;
};

// Marks, in the upper half of an operation's user_data, that its result is a descriptor of ours.
constexpr uint64_t kMakesDescriptor = 1ull << 63;

}  // namespace fastio_node
