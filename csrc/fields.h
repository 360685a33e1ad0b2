// Records by field name: what Python gives as keywords (or as a dict) becomes the members of a record. A field that is
// missing or unknown is a TypeError that names it. Names are compared as interned strings, by address: a call of
// fourteen fields takes about as long as one of fourteen positional arguments.
#pragma once
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace memkern {

namespace py = pybind11;

template <class Record>
struct Field {
  const char* name;
  const char* (*take)(Record& record, PyObject* value);  // returns null, or what was expected instead
};

// Number of letters to change, add or leave out to come from one word to the other.
inline size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// All fields of a record. Every one must be given, in any order; the order of the table is the fastest.
template <class Record>
class Fields {
 public:
  Fields(const char* record, std::vector<Field<Record>> fields) : record_(record), fields_(std::move(fields)) {
    for (const Field<Record>& field : fields_) names_.push_back(PyUnicode_InternFromString(field.name));
  }

  // Keywords as CPython passes them: a tuple of names, or null for none, and the values beside it.
  void read(Record& record, PyObject* const* values, PyObject* names) const {
    const Py_ssize_t given = names ? PyTuple_GET_SIZE(names) : 0;
    uint64_t seen = 0;
    for (Py_ssize_t i = 0; i < given; ++i) seen |= take(record, PyTuple_GET_ITEM(names, i), values[i], size_t(i));
    check_all(seen);
  }

  void read(Record& record, PyObject* dict) const {
    if (!PyDict_Check(dict)) fail("expected its fields as a dict", dict);
    uint64_t seen = 0;
    PyObject *name, *value;
    size_t i = 0;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &name, &value); ++i) seen |= take(record, name, value, i);
    check_all(seen);
  }

 private:
  // Returns the bit of the field.
  uint64_t take(Record& record, PyObject* name, PyObject* value, size_t guess) const {
    const size_t i = guess < names_.size() && names_[guess] == name ? guess : find(name);
    if (const char* const expected = fields_[i].take(record, value))
      fail(std::string("expected `") + fields_[i].name + "` to be " + expected, value);
    return uint64_t{1} << i;
  }

  size_t find(PyObject* name) const {
    for (size_t i = 0; i < names_.size(); ++i)
      if (names_[i] == name) return i;
    for (size_t i = 0; i < names_.size(); ++i)  // a string that was not interned
      if (PyUnicode_Check(name) && PyUnicode_Compare(names_[i], name) == 0) return i;
    const std::string unknown = py::str(py::handle(name));
    const auto nearest = std::min_element(fields_.begin(), fields_.end(), [&](const auto& a, const auto& b) {
      return edit_distance(a.name, unknown) < edit_distance(b.name, unknown);
    });
    throw py::type_error("memkern: " + record_ + " has no field `" + unknown + "`; did you mean `" + nearest->name +
                         "`?");
  }

  void check_all(uint64_t seen) const {
    for (size_t i = 0; i < fields_.size(); ++i)
      if (!(seen >> i & 1)) throw py::type_error("memkern: " + record_ + " needs the field `" + fields_[i].name + "`");
  }

  [[noreturn]] void fail(const std::string& expected, PyObject* value) const {
    throw py::type_error("memkern: " + record_ + ": " + expected + ", got " + std::string(py::repr(value)));
  }

  std::string record_;
  std::vector<Field<Record>> fields_;
  std::vector<PyObject*> names_;
};

// The fields of a record, and whether it may stand inside of another, as a dict; bindings.h makes one of each.
template <class Record>
extern const Fields<Record> fields_of;
template <class Record>
constexpr bool is_nested = false;

// ---- one value -----------------------------------------------------------------------------------------------------
// Each writes the member and returns null, or returns what it had expected.

inline const char* take(PyObject* value, int64_t& to) {
  to = PyLong_AsLongLong(value);
  if (to != -1 || !PyErr_Occurred()) return nullptr;
  PyErr_Clear();
  return "a whole number";
}

template <class Number, std::enable_if_t<std::is_enum_v<Number> || std::is_same_v<Number, bool>, int> = 0>
const char* take(PyObject* value, Number& to) {
  int64_t number = 0;
  const char* const expected = take(value, number);
  to = Number(number);
  return expected;
}

inline const char* take(PyObject* value, float& to) {
  const double number = PyFloat_AsDouble(value);
  to = float(number);
  if (number != -1 || !PyErr_Occurred()) return nullptr;
  PyErr_Clear();
  return "a number";
}

template <class T>
const char* take(PyObject* value, T*& to) {
  int64_t address = 0;
  if (take(value, address)) return "an address";
  to = reinterpret_cast<T*>(uintptr_t(address));
  return nullptr;
}

// A record inside of another.
template <class Record>
std::enable_if_t<is_nested<Record>, const char*> take(PyObject* value, Record& to) {
  fields_of<Record>.read(to, value);
  return nullptr;
}

// Calls take_item(item) for the items of a tuple or list.
template <class TakeItem>
const char* take_each(PyObject* value, const TakeItem& take_item) {
  if (!PyTuple_Check(value) && !PyList_Check(value)) return "a tuple or list";
  PyObject* const* const items = PySequence_Fast_ITEMS(value);
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(value); ++i)
    if (const char* const expected = take_item(items[i])) return expected;
  return nullptr;
}

template <class T>
const char* take(PyObject* value, std::vector<T>& to) {
  return take_each(value, [&](PyObject* item) {
    to.emplace_back();
    return take(item, to.back());
  });
}

template <class T, size_t count>
const char* take(PyObject* value, T (&to)[count]) {
  const char* const wrong_length = "as many numbers as the record holds";
  size_t taken = 0;
  const char* const expected =
      take_each(value, [&](PyObject* item) { return taken < count ? take(item, to[taken++]) : wrong_length; });
  return expected ? expected : taken < count ? wrong_length : nullptr;
}

}  // namespace memkern
