// SPDX-License-Identifier: MIT
#include "engine.h"

#include <cerrno>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

namespace fastio_node {

namespace {

// After so many batches in a row other handles of the loop get their turn.
constexpr int kMaxBatches = 64;

uv_handle_t* AllocateHandle(int type) {
  return static_cast<uv_handle_t*>(calloc(1, uv_handle_size(type)));
}

}  // namespace

int Engine::Start(struct uv_loop_s* loop, const EngineOptions& options, struct fastio_error* error) {
  options_ = options;
  const int ret = fastio_setup(&fio_, &options_.params, error);
  if (ret < 0) return ret;
  state_.assign(size_t{fio_->nr_queues} * kStateWords, 0);
  for (uint32_t i = 0; i < fio_->nr_queues; i++) {
    // Set-up has used the queues already.
    const struct fastio_queue& queue = fio_->queues[i];
    uint32_t* state = &state_[size_t{i} * kStateWords];
    state[kSqTail] = queue.sq_claimed;
    state[kSqHead] = queue.sq_head;
    state[kCqHead] = queue.cq_head;
    state[kCqTail] = queue.cq_head;
  }
  given_back_.assign(size_t{fio_->nr_queues} * options_.provided, 0);
  owned_.assign(kMaxOwned, 0);
  const int provided = ProvideBuffers();
  return provided < 0 ? provided : StartHandles(loop);
}

int Engine::StartHandles(struct uv_loop_s* loop) {
  poll_ = AllocateHandle(UV_POLL_HANDLE);
  prepare_ = AllocateHandle(UV_PREPARE_HANDLE);
  if (poll_ == nullptr || prepare_ == nullptr) return -ENOMEM;
  uv_handle_set_data(poll_, this);
  uv_handle_set_data(prepare_, this);
  int ret = uv_poll_init(loop, poll_, fastio_poll_fd(fio_));
  if (ret < 0) return ret;
  poll_open_ = true;
  open_handles_++;
  ret = uv_prepare_init(loop, prepare_);
  if (ret < 0) return ret;
  prepare_open_ = true;
  open_handles_++;
  ret = uv_poll_start(poll_, UV_READABLE_EVENT, OnPoll);
  if (ret < 0) return ret;
  ret = uv_prepare_start(prepare_, OnPrepare);
  if (ret < 0) return ret;
  uv_unref(poll_);
  uv_unref(prepare_);
  return 0;
}

int Engine::ProvideBuffers() {
  if (Grow(options_.provided * fio_->nr_queues) == nullptr) return -ENOMEM;
  groups_.resize(fio_->nr_queues);
  for (uint32_t i = 0; i < fio_->nr_queues; i++) {
    const int ret = fastio_bufs_setup(&groups_[i], &fio_->queues[i], i, options_.provided);
    if (ret < 0) return ret;
    for (uint32_t id = 0; id < options_.provided; id++) Provide(i, static_cast<uint16_t>(id));
    fastio_bufs_publish(&groups_[i]);
  }
  return 0;
}

void Engine::Provide(uint32_t queue, uint16_t id) {
  const size_t at = (size_t{queue} * options_.provided + id) * options_.block_bytes;
  fastio_bufs_add(&groups_[queue], segments_.front().base + at, options_.block_bytes, id);
}

const Segment* Engine::Grow(uint32_t blocks) {
  const size_t bytes = size_t{blocks} * options_.block_bytes;
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  segments_.push_back({static_cast<uint8_t*>(base), bytes});
  return &segments_.back();
}

void Engine::Flush() {
  for (uint32_t i = 0; i < fio_->nr_queues; i++) {
    struct fastio_queue* queue = &fio_->queues[i];
    uint32_t* state = &state_[size_t{i} * kStateWords];

    // Buffers before SQEs: a receive that found none is submitted again with them.
    if (state[kGivenBack] > 0) {
      for (uint32_t at = 0; at < state[kGivenBack]; at++) Provide(i, given_back_[size_t{i} * options_.provided + at]);
      fastio_bufs_publish(&groups_[i]);
      state[kGivenBack] = 0;
    }
    if (queue->cq_head != state[kCqHead]) fastio_seen_many(queue, state[kCqHead] - queue->cq_head);
    if (queue->sq_claimed != state[kSqTail]) {
      while (queue->sq_claimed != state[kSqTail] && fastio_get_sqe(queue) != nullptr) continue;
      const int ret = fastio_submit(queue);
      if (ret < 0) state_[kFailed] = static_cast<uint32_t>(-ret);
    }
    fastio_sq_space(queue);
    state[kSqHead] = queue->sq_head;
  }
}

// Executes what is due on the program's own queue and looks at all CQs. Returns whether one holds anything.
bool Engine::Collect() {
  bool any = false;
  fastio_serve(fio_);
  do {
    for (uint32_t i = 0; i < fio_->nr_queues; i++) {
      struct fastio_queue* queue = &fio_->queues[i];
      any = fastio_peek(queue) != nullptr || any;
      state_[size_t{i} * kStateWords + kCqTail] = queue->cq_tail;
    }
  } while (!any && fio_->clear_when_empty && fastio_emptied(fio_));
  if (__atomic_load_n(&fio_->queues[0].ring->flags, __ATOMIC_RELAXED) & FASTIO_RING_DEAD) {
    state_[kFailed] = ESHUTDOWN;
  }
  return any || state_[kFailed] != 0;
}

void Engine::OnPoll(uv_handle_t* handle, int, int) {
  auto* engine = static_cast<Engine*>(uv_handle_get_data(handle));
  for (int batch = 0; batch < kMaxBatches && engine->is_running(); batch++) {
    engine->Flush();
    if (!engine->Collect()) return;
    if (!engine->dispatch()) break;
  }
  if (engine->is_running()) engine->Flush();
}

// Before each sleep of the loop: whatever JavaScript submitted since then goes out here, with no call of its own. Of
// the program's own queue everything: nothing would announce what a bounded pass leaves. When there are completions
// already, the descriptor is readable, and the loop does not sleep.
void Engine::OnPrepare(uv_handle_t* handle) {
  auto* engine = static_cast<Engine*>(uv_handle_get_data(handle));
  if (!engine->is_running()) return;
  engine->Flush();
  fastio_before_poll(engine->fio_);
}

void Engine::Stop() {
  if (stopping_) return;
  stopping_ = true;
  // Before its descriptor is closed: a child that inherited the device would keep libuv's interest in it alive.
  if (poll_open_) uv_poll_stop(poll_);
  if (fio_ != nullptr) {
    CloseUnreaped();
    fastio_exit(fio_);
    fio_ = nullptr;
    // Only now: a descriptor that is closed while it has a slot would leave the slot to whoever gets the number.
    for (size_t fd = 0; fd < owned_.size(); fd++) {
      if (owned_[fd]) close(static_cast<int>(fd));
    }
  }
  for (const Segment& segment : segments_) munmap(segment.base, segment.bytes);
  segments_.clear();
  if (poll_open_) uv_close(poll_, OnClosed);
  if (prepare_open_) uv_close(prepare_, OnClosed);
  if (open_handles_ == 0) HandleGone();
}

// Descriptors that operations made and nobody was told of.
void Engine::CloseUnreaped() {
  for (uint32_t i = 0; i < fio_->nr_queues; i++) {
    struct fastio_queue* queue = &fio_->queues[i];
    const uint32_t handled = state_.empty() ? 0 : state_[size_t{i} * kStateWords + kCqHead];
    if (queue->cq_head != handled) fastio_seen_many(queue, handled - queue->cq_head);
    // Workers may still post while this looks: at most a whole CQ is looked at.
    for (uint32_t seen = 0; seen < queue->cq_entries; seen++) {
      const struct fastio_cqe* cqe = fastio_peek(queue);
      if (cqe == nullptr) break;
      if ((cqe->user_data & kMakesDescriptor) && cqe->res >= 0) close(cqe->res);
      fastio_seen(queue);
    }
  }
}

void Engine::OnClosed(uv_handle_t* handle) {
  auto* engine = static_cast<Engine*>(uv_handle_get_data(handle));
  if (--engine->open_handles_ == 0) engine->HandleGone();
}

void Engine::HandleGone() {
  free(poll_);
  free(prepare_);
  if (stopped) stopped();
  delete this;
}

}  // namespace fastio_node
