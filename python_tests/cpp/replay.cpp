// Runs calls of CPU kernels that another process has written down (python_tests/agreement/replay.py): on a processor
// that is emulated, or in a build with sanitizers. A call is a line and the bytes of the memory that it reads or
// writes,
//
//   op threads blocks size ... { field value ... }
//
// where a value is a number, block+offset for an address, [ values ] or { field value ... }. Every block lies in memory
// of exactly its size. The answer is the line "done" and the bytes of all blocks, or "failed: " and why.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "calls.h"
#include "cpu/dispatch/parallel.h"

using namespace memkern;

namespace {

using Block = std::unique_ptr<char, decltype(&std::free)>;

[[noreturn]] void fail(const std::string& why) { throw std::invalid_argument(why); }

struct Value {
  std::string text;
  std::vector<Value> items;             // of a list
  std::map<std::string, Value> fields;  // of a record

  static Value parse(std::istream& in) {
    Value value;
    if (!(in >> value.text)) fail("a value is missing");
    if (value.text == "[") {
      for (Value item = parse(in); item.text != "]"; item = parse(in)) value.items.push_back(item);
    } else if (value.text == "{") {
      std::string name;
      while (in >> name && name != "}") value.fields[name] = parse(in);
    }
    return value;
  }
};

std::vector<Block> blocks;

void take(const Value& value, int64_t& to) { to = std::stoll(value.text); }
void take(const Value& value, float& to) { to = std::strtof(value.text.c_str(), nullptr); }
template <class Number, std::enable_if_t<std::is_enum_v<Number> || std::is_same_v<Number, bool>, int> = 0>
void take(const Value& value, Number& to) {
  to = Number(std::stoll(value.text));
}
template <class T>
void take(const Value& value, T*& to) {
  const size_t plus = value.text.find('+');
  to = nullptr;
  if (plus == std::string::npos) return;
  to = reinterpret_cast<T*>(blocks.at(std::stoul(value.text)).get() + std::stoll(value.text.substr(plus + 1)));
}
void take(const Value& value, Dims& to) {
  to.count = int64_t(value.items.size());
  if (to.count > kMaxMeanDims + 2) fail("too many sizes");
  for (int64_t i = 0; i < to.count; ++i) take(value.items[size_t(i)], to.values[i]);
}
template <class T, size_t count>
void take(const Value& value, T (&to)[count]) {
  for (size_t i = 0; i < count; ++i) take(value.items.at(i), to[i]);
}
template <class Record>
std::enable_if_t<std::is_class_v<Record>> take(const Value& value, Record& to);
template <class T>
void take(const Value& value, std::vector<T>& to) {
  to.resize(value.items.size());
  for (size_t i = 0; i < to.size(); ++i) take(value.items[i], to[i]);
}

template <class Record>
void take_fields(const Value& value, Record& to);

#define FIELD(name) FIELD_AS(name, name)
#define FIELD_AS(name, place) take(value.fields.at(#name), to.place);
#define PART(Record, what, ...)                      \
  template <>                                        \
  void take_fields(const Value& value, Record& to) { \
    __VA_ARGS__                                      \
  }
#define CPU_OP(name, Record, ...)                          \
  template <>                                              \
  void take_fields(const Value& value, Call<Record>& to) { \
    __VA_ARGS__                                            \
  }
#include "ops_table.h"

template <class Record>
std::enable_if_t<std::is_class_v<Record>> take(const Value& value, Record& to) {
  take_fields(value, to);
}

template <class Op, void (*run)(const Op& op, int threads)>
void replay(const Value& value, int threads) {
  Call<Op> op{};
  take_fields(value, op);
  complete(op);
  run(op, threads);
}

void replay(const std::string& op, const Value& value, int threads) {
#define CPU_OP(name, Record, ...) \
  if (op == #name) return replay<Record, run_##name>(value, threads);
#include "ops_table.h"
  fail("no op is called " + op);
}

void answer(const std::string& line, std::vector<size_t>& sizes) {
  std::istringstream in(line);
  std::string op;
  int threads = 0;
  size_t count = 0;
  in >> op >> threads >> count;
  sizes.resize(count);
  for (size_t& size : sizes) in >> size;
  const Value value = Value::parse(in);
  blocks.clear();
  for (const size_t size : sizes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size)) throw std::bad_alloc();  // as torch allocates
    blocks.emplace_back(static_cast<char*>(memory), std::free);
    if (!std::cin.read(blocks.back().get(), std::streamsize(size))) fail("the bytes end early");
  }
  replay(op, value, threads);
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && !select_kernels(arguments[1])) {
    std::cerr << arguments[1] << " does not run on this processor\n";
    return 1;
  }
  std::string line;
  std::vector<size_t> sizes;
  while (std::getline(std::cin, line)) {
    try {
      answer(line, sizes);
      std::cout << "done\n";
      for (size_t i = 0; i < sizes.size(); ++i) std::cout.write(blocks[i].get(), std::streamsize(sizes[i]));
    } catch (const std::exception& error) {
      std::cout << "failed: " << error.what() << "\n";
    }
    std::cout.flush();
  }
}
