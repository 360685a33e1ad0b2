// Scratch memory as several arrays, one after the other. The same code counts the bytes (from null) and hands out.
#pragma once
#include <cstdint>

namespace memkern {

class Scratch {
 public:
  explicit Scratch(void* memory = nullptr) : first_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    T* const array = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(first_) + uintptr_t(bytes_));
    bytes_ += (count * int64_t(sizeof(T)) + 15) / 16 * 16;
    return array;
  }

  int64_t bytes() const { return bytes_; }

 private:
  char* first_;
  int64_t bytes_ = 0;
};

}  // namespace memkern
