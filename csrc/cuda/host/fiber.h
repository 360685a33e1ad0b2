// Fibres: a CUDA thread of the emulated block is a stack and a saved place of execution on it.
// The sanitizers must be told of every switch; ThreadSanitizer is told that a switch orders nothing, so that only what
// CUDA itself orders (barriers, __syncwarp) counts as synchronisation.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

// The emulator's own bookkeeping is shared by all fibres and must not look like accesses of the kernel.
#if defined(__SANITIZE_THREAD__)
#define MEMKERN_RUNTIME __attribute__((no_sanitize("thread"), noinline))
#else
#define MEMKERN_RUNTIME
#endif

namespace memkern {
namespace emulation {

// Order that CUDA gives: everything before order_before(token) happens before everything after order_after(token).
MEMKERN_RUNTIME inline void order_before([[maybe_unused]] void* token) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(token);
#endif
}
MEMKERN_RUNTIME inline void order_after([[maybe_unused]] void* token) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(token);
#endif
}

constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kGuardBytes = 4096;

// ---- saved places of execution: seven registers on x86-64 (170 ns a switch), ucontext elsewhere (720 ns) ----------

#if defined(__x86_64__)
struct Context {
  void* stack_pointer;
};
__attribute__((naked, noinline)) inline void swap_stack_pointers(void** /*from*/, void* /*to*/) {
  asm volatile(
      "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
      "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
      "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}
MEMKERN_RUNTIME inline void swap_contexts(Context& from, Context& to) {
  swap_stack_pointers(&from.stack_pointer, to.stack_pointer);
}
MEMKERN_RUNTIME inline void make_context(Context& context, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack + kStackBytes) & ~uintptr_t{15}) - 16);
  *--top = nullptr;  // in place of a return address, which keeps the alignment the ABI asks for
  *--top = reinterpret_cast<void*>(entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  context.stack_pointer = top;
}
#else
struct Context {
  ucontext_t place;
};
inline void swap_contexts(Context& from, Context& to) { swapcontext(&from.place, &to.place); }
inline void make_context(Context& context, char* stack, void (*entry)()) {
  getcontext(&context.place);
  context.place.uc_stack.ss_sp = stack;
  context.place.uc_stack.ss_size = kStackBytes;
  context.place.uc_link = nullptr;
  makecontext(&context.place, entry, 0);
}
#endif

// ---- fibres -------------------------------------------------------------------------------------------------------

enum class State : uint8_t { ready, at_barrier, at_warp, done };

struct Fiber {
  Context context;
  char* stack;
  void* sanitizer;  // AddressSanitizer's fake stack, or ThreadSanitizer's fibre
  int index;        // threadIdx, flattened
  unsigned x, y, z;
  State state;
  const char* file;  // where it waits
  int line;
};

// The thread that launches; fibres return to it to be scheduled.
struct Scheduler {
  Context context;
  void* sanitizer = nullptr;
  const void* stack = nullptr;
  size_t stack_bytes = 0;
};
inline Scheduler scheduler;

inline char* allocate_stack() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) abort();
  return static_cast<char*>(memory) + kGuardBytes;  // a kernel that overflows its stack faults on the guard page
}

// Stack and fibre that a thread runs on, kept for the launches to come, because new ones for every thread are slow
// under ThreadSanitizer. A launch is ordered after the one before, so it may use both again.
struct Seat {
  char* stack = allocate_stack();
#if defined(__SANITIZE_THREAD__)
  void* sanitizer = __tsan_create_fiber(0);
#else
  void* sanitizer = nullptr;
#endif
};
inline std::vector<Seat> seats;

MEMKERN_RUNTIME inline void switch_to(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack;
  __sanitizer_start_switch_fiber(&fake_stack, fiber.stack, kStackBytes);
#elif defined(__SANITIZE_THREAD__)
  scheduler.sanitizer = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
  swap_contexts(scheduler.context, fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

MEMKERN_RUNTIME inline void switch_to_scheduler(Fiber& fiber, [[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.sanitizer, scheduler.stack, scheduler.stack_bytes);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
  swap_contexts(fiber.context, scheduler.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.sanitizer, &scheduler.stack, &scheduler.stack_bytes);
#endif
}

// The first thing a fibre does on its own stack.
MEMKERN_RUNTIME inline void arrive_on_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.stack_bytes);
#endif
}

}  // namespace emulation
}  // namespace memkern
