// Working memory of one range call, aligned to a cache line. Kernels allocate it once a call, never per point.
#pragma once
#include <cstdint>
#include <new>

namespace memkern {
namespace MEMKERN_ISA {

// Not std::vector: its code would be emitted as a weak symbol, and the linker might keep the AVX-512 copy for everyone.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<T*>(::operator new(sizeof(T) * size_t(count), kLine))) {}
  ~Scratch() { ::operator delete(data_, kLine); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr std::align_val_t kLine{64};
  T* data_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
