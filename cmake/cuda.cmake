# Whether the CUDA kernels are compiled, and for which GPUs.
#
#   MEMKERN_CUDA=AUTO (default)  where nvcc and a GPU are found, for that GPU
#   MEMKERN_CUDA=ON              for every GPU from Ampere on; an error without nvcc
#   MEMKERN_CUDA=NVRTC           launchers alone; NVRTC compiles each kernel at its first launch: no nvcc is needed
#   MEMKERN_CUDA=OFF             never
#
# CMAKE_CUDA_ARCHITECTURES or TORCH_CUDA_ARCH_LIST, where set, name the GPUs instead; nvcc is then enough.
# AUTO does not build for a machine without a GPU, because compiling for all GPUs takes minutes.
set(MEMKERN_CUDA AUTO CACHE STRING "CUDA kernels: ON, OFF, NVRTC, or AUTO, which asks for nvcc and a GPU")
set_property(CACHE MEMKERN_CUDA PROPERTY STRINGS AUTO ON NVRTC OFF)
file(GLOB launchers CONFIGURE_DEPENDS csrc/cuda/*.cu)
set(MEMKERN_WITHOUT_CUDA "built without CUDA (MEMKERN_CUDA=OFF)")
if(NOT MEMKERN_CUDA STREQUAL AUTO AND NOT MEMKERN_CUDA)
  return()
endif()

if(MEMKERN_CUDA STREQUAL NVRTC)
  set_source_files_properties(${launchers} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
  add_library(memkern_cuda STATIC ${launchers})
  target_compile_definitions(memkern_cuda PUBLIC MEMKERN_LAUNCH_BY_NAME)
  target_compile_options(memkern_cuda PRIVATE -O1 -Wno-unknown-pragmas)
  set(MEMKERN_CUDA_CODE NVRTC)
  # the kernels' source, where memkern/nvrtc.py looks for it
  install(DIRECTORY csrc/ DESTINATION cuda_source FILES_MATCHING PATTERN "*.cuh" PATTERN "*.h"
          PATTERN cpu EXCLUDE PATTERN host EXCLUDE PATTERN "bindings*.h" EXCLUDE PATTERN fields.h EXCLUDE PATTERN layout.h EXCLUDE)
  return()
endif()

find_program(MEMKERN_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin
             PATHS /usr/local/cuda /opt/cuda)
if(NOT MEMKERN_NVCC)
  if(NOT MEMKERN_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "MEMKERN_CUDA=${MEMKERN_CUDA}: nvcc was not found; put it on PATH, or set CUDA_HOME")
  endif()
  set(MEMKERN_WITHOUT_CUDA "built without CUDA (no nvcc was found)")
  return()
endif()

include(${CMAKE_CURRENT_LIST_DIR}/cuda_architectures.cmake) # code, or CMAKE_CUDA_ARCHITECTURES
if(NOT MEMKERN_CUDA_CODE)
  return()
endif()

set(CMAKE_CUDA_COMPILER ${MEMKERN_NVCC})
set(CMAKE_CUDA_STANDARD 17)
if(code)
  # Kernels use nothing that is new in an architecture: PTX for the oldest serves them all, and GPUs to come, and is
  # made once (a third of the time of the whole).
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
    list(FILTER code EXCLUDE REGEX "^1..$") # Blackwell: unknown to this nvcc, which leaves it the PTX
  endif()
  list(SORT code COMPARE NATURAL)
  list(GET code 0 oldest)
  string(REPLACE ";" ",sm_" machine_code "${code}")
  set(gencode "-gencode=arch=compute_${oldest},code=[sm_${machine_code},compute_${oldest}]")
  set(MEMKERN_CUDA_CODE "${code}")
else()
  enable_language(CUDA)
endif()
message(STATUS "CUDA kernels for ${MEMKERN_CUDA_CODE}")

add_library(memkern_cuda STATIC ${launchers})
target_compile_options(memkern_cuda PRIVATE -O3 ${gencode})
string(REPLACE ";" ", " MEMKERN_CUDA_CODE "${MEMKERN_CUDA_CODE}")
