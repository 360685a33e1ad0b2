// Conversion of what Python gives of each op, by field name, to the record of ops.h: for both files of bindings.
#pragma once
#include <exception>
#include <new>

#include "calls.h"
#include "fields.h"

namespace memkern {

// ---- the fields ----------------------------------------------------------------------------------------------------

inline const char* take(PyObject* value, Dims& to) {
  to.count = 0;
  return take_each(value, [&](PyObject* item) {
    return to.count < kMaxMeanDims + 2 ? take(item, to.values[to.count++]) : "at most ten numbers";
  });
}

template <>
inline constexpr bool is_nested<Call<LayerStats>> = true;

#define FIELD_AS(name, place) {#name, [](auto& record, PyObject* value) { return take(value, record.place); }},
#define FIELD(name) FIELD_AS(name, name)
#define PART(Record, what, ...)                   \
  template <>                                     \
  inline constexpr bool is_nested<Record> = true; \
  template <>                                     \
  inline const Fields<Record> fields_of<Record>{what, {__VA_ARGS__}};
#define OP(name, Record, ...) \
  template <>                 \
  inline const Fields<Call<Record>> fields_of<Call<Record>>{#name, {__VA_ARGS__}};
#define CPU_OP OP
#define CUDA_OP OP
#include "ops_table.h"

// ---- functions of Python -------------------------------------------------------------------------------------------

// Calls body() and returns None; an exception becomes Python's.
template <class Body>
PyObject* returning_none(const Body& body) noexcept {
  try {
    body();
    Py_RETURN_NONE;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// The function of an op: where it runs, then the fields of its record as keywords. run(where, record) runs it. By hand
// instead of by pybind11, which would make a dict of the keywords and look into it for each.
template <class Op, void (*run)(PyObject* where, const Op& op)>
PyObject* call(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) noexcept {
  return returning_none([&] {
    if (count != 1) throw py::type_error("memkern: expected where to run, and then fields by name");
    Call<Op> op{};
    fields_of<Call<Op>>.read(op, arguments + 1, names);
    complete(op);
    run(arguments[0], op);
  });
}

template <class Op, void (*run)(PyObject* where, const Op& op)>
void bind(py::module_& m, const char* name) {
  static PyMethodDef method{name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&call<Op, run>)),
                            METH_FASTCALL | METH_KEYWORDS, nullptr};
  m.add_object(name, py::reinterpret_steal<py::object>(PyCFunction_New(&method, nullptr)));
}

}  // namespace memkern
