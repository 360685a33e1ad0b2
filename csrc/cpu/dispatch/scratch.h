// Working memory of one range call, aligned to a cache line. Kernels allocate it once a call, never per point.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

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

}  // namespace MEMKERN_ISA
}  // namespace memkern
