// Working memory of one range call, aligned to a cache line. Kernels allocate it once a call, never per point.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace memkern {
namespace MEMKERN_ISA {

// Up to `small` elements lie inside the object: for a handful of small points eleven allocations took longer than the
// work. Not std::vector: its code would be emitted as a weak symbol, and the linker might keep the AVX-512 copy for
// everyone.
template <class T, int64_t small = 0>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(reinterpret_cast<T*>(count <= small ? inside_ : ::operator new(sizeof(T) * size_t(count), kLine))) {}
  ~Scratch() {
    if (static_cast<void*>(data_) != inside_) ::operator delete(data_, kLine);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr std::align_val_t kLine{64};
  alignas(small > 0 ? 64 : 1) char inside_[small > 0 ? small * int64_t(sizeof(T)) : 1];
  T* data_;
};

// Up to `most` objects, made one by one. An array of std::optional would be cleared before: GCC 12 wrote 70 KB of zeros
// for every call of alignment, a fifth of the time of a small one.
template <class T, int most>
class Several {
 public:
  Several() {}
  ~Several() {
    while (count_ > 0) (*this)[int(--count_)].~T();
  }
  Several(const Several&) = delete;
  Several& operator=(const Several&) = delete;
  template <class... Arguments>
  T& add(Arguments&&... arguments) {
    T* const made = new (inside_ + count_ * sizeof(T)) T(std::forward<Arguments>(arguments)...);
    ++count_;
    return *made;
  }
  T& operator[](int i) { return *std::launder(reinterpret_cast<T*>(inside_ + size_t(i) * sizeof(T))); }

 private:
  alignas(T) char inside_[most * sizeof(T)];
  size_t count_ = 0;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
