// Threads that share the units of one piece of work.

#pragma once

#include <immintrin.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>

namespace {

// The caller and its helpers. Helpers spin while a caller has work coming (between two layers of a
// small subnet there are microseconds), and sleep otherwise; nobody ever waits for one that has not
// woken up yet or whose processor was taken away before it began.
class Team {
 public:
  // One caller's use of the helpers; without them where another has them, one thread is asked for, or
  // the caller is a thread of low priority: helpers would inherit it for good.
  class Session {
   public:
    Session(Team& team, int threads) : team_(team), owner_(team.owner_, std::defer_lock) {
      if (threads > 1 && !in_background() && owner_.try_lock()) {
        threads_ = std::min(threads, kMost);
        team_.begin(threads_ - 1);
      }
    }
    ~Session() {
      if (threads_ > 1) team_.end();
    }
    int threads() const { return threads_; }

    // work(unit) for all units; throws bad_alloc where a thread ran out of memory.
    template <class Work>
    void run(int64_t units, const Work& work) {
      if (threads_ == 1 || units <= 1) {
        for (int64_t unit = 0; unit < units; ++unit) work(unit);
      } else {
        team_.share(units, &work, [](const void* context, int64_t unit) {
          (*static_cast<const Work*>(context))(unit);
        });
      }
    }

   private:
    static bool in_background() {
      return getpriority(PRIO_PROCESS, 0) > getpriority(PRIO_PROCESS, getpid());
    }

    Team& team_;
    std::unique_lock<std::mutex> owner_;
    int threads_ = 1;
  };

  ~Team() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (int i = 0; i < size_; ++i) helpers_[i].join();
  }

 private:
  // Units that are one thread's before they are the others'.
  struct alignas(64) Part {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  static constexpr int kMost = 64;
  static constexpr int kSpins = 2000;
  // state_: the number of the piece of work, whether it is open, and how many helpers are in it.
  static constexpr uint64_t kOpen = 1 << 15, kCount = kOpen - 1, kNext = 1 << 16;

  void begin(int helpers) {
    for (; size_ < helpers; ++size_)
      helpers_[size_] = std::thread([this, own = size_ + 1] { help(own); });
    {
      std::lock_guard<std::mutex> lock(mutex_);
      active_.store(true);
    }
    wake_.notify_all();
  }

  void end() { active_.store(false); }

  void share(int64_t units, const void* context, void (*call)(const void*, int64_t)) {
    const int parts = size_ + 1;
    for (int part = 0; part < parts; ++part) {
      parts_[part].next.store(units * part / parts);
      parts_[part].end = units * (part + 1) / parts;
    }
    grain_ = std::max<int64_t>(1, units / (16 * parts));
    context_ = context;
    call_ = call;
    failed_.store(false);
    state_.store((state_.load() / kNext + 1) * kNext | kOpen);
    take(0);
    state_.fetch_and(~kOpen);
    for (int spin = 0; (state_.load(std::memory_order_acquire) & kCount) != 0; ++spin)
      spin < kSpins ? _mm_pause() : std::this_thread::yield();
    if (failed_.load()) throw std::bad_alloc();
  }

  // A thread's own part first, then what is left of the others': neighbouring units read the same
  // weights, and on their way to a core those are most of a small batch's work.
  void take(int own) {
    const int parts = size_ + 1;
    for (int i = 0; i < parts && !failed_.load(); ++i) take_from(parts_[(own + i) % parts]);
  }

  void take_from(Part& part) {
    for (;;) {
      const int64_t start = part.next.fetch_add(grain_);
      if (start >= part.end) return;
      const int64_t end = std::min(part.end, start + grain_);
      try {
        for (int64_t unit = start; unit < end; ++unit) call_(context_, unit);
      } catch (const std::bad_alloc&) {
        failed_.store(true);
        return;
      }
    }
  }

  void help(int own) {
    uint64_t done = 0;  // the piece of work last taken part in
    int idle = 0;
    while (!stop_.load()) {
      uint64_t state = state_.load();
      if ((state & kOpen) != 0 && state / kNext != done) {
        if (!state_.compare_exchange_weak(state, state + 1)) continue;
        done = state / kNext;
        take(own);
        state_.fetch_sub(1, std::memory_order_release);
        idle = 0;
      } else if (++idle < kSpins) {
        _mm_pause();
      } else if (active_.load()) {
        std::this_thread::yield();  // others of the process may need the processor meanwhile
      } else {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this] { return active_.load() || stop_.load(); });
        idle = 0;
      }
    }
  }

  std::mutex owner_, mutex_;
  std::condition_variable wake_;
  std::thread helpers_[kMost];
  int size_ = 0;
  std::atomic<bool> stop_{false}, active_{false}, failed_{false};
  int64_t grain_ = 1;
  void (*call_)(const void*, int64_t) = nullptr;
  const void* context_ = nullptr;
  alignas(64) std::atomic<uint64_t> state_{0};
  Part parts_[kMost];
};

}  // namespace
