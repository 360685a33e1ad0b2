# Whether the CUDA kernels are compiled, and for which GPUs.
#
#   MEMKERN_CUDA=AUTO (default)  where nvcc and a GPU are found, for that GPU
#   MEMKERN_CUDA=ON              for every GPU from Ampere on; an error without nvcc
#   MEMKERN_CUDA=OFF             never
#
# CMAKE_CUDA_ARCHITECTURES or TORCH_CUDA_ARCH_LIST, where set, name the GPUs instead; nvcc is then enough.
# AUTO does not build for a machine without a GPU, because all GPUs take 130 s of a core.
set(MEMKERN_CUDA AUTO CACHE STRING "CUDA kernels: ON, OFF, or AUTO, which asks for nvcc and a GPU")
set_property(CACHE MEMKERN_CUDA PROPERTY STRINGS AUTO ON OFF)
set(MEMKERN_WITHOUT_CUDA "built without CUDA (MEMKERN_CUDA=OFF)")
if(NOT MEMKERN_CUDA STREQUAL AUTO AND NOT MEMKERN_CUDA)
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

# "8.0 9.0+PTX" or "8.0;9.0+PTX" to "80-real;90"
if(NOT CMAKE_CUDA_ARCHITECTURES AND DEFINED ENV{TORCH_CUDA_ARCH_LIST})
  string(REGEX REPLACE "[ ,]+" ";" named "$ENV{TORCH_CUDA_ARCH_LIST}")
  foreach(arch IN LISTS named)
    if(NOT arch MATCHES "^[0-9]+\\.[0-9][af]?(\\+PTX)?$")
      message(FATAL_ERROR "Expected TORCH_CUDA_ARCH_LIST to hold numbers such as 8.0 or 9.0+PTX, got ${arch}")
    endif()
    string(REPLACE "." "" arch "${arch}")
    string(REGEX REPLACE "^([0-9]+[af]?)$" "\\1-real" arch "${arch}")
    string(REPLACE "+PTX" "" arch "${arch}")
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${arch})
  endforeach()
endif()

set(code)
if(CMAKE_CUDA_ARCHITECTURES)
  set(MEMKERN_CUDA_CODE "${CMAKE_CUDA_ARCHITECTURES}")
elseif(MEMKERN_CUDA STREQUAL AUTO)
  find_program(MEMKERN_NVIDIA_SMI nvidia-smi)
  if(MEMKERN_NVIDIA_SMI)
    execute_process(COMMAND ${MEMKERN_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE capabilities ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
    string(REPLACE "." "" code "${capabilities}")
    list(REMOVE_DUPLICATES code)
  endif()
  if(NOT code)
    set(MEMKERN_WITHOUT_CUDA "built without CUDA (nvcc was found, a GPU was not)")
    return()
  endif()
else()
  set(code 80 86 90 100 120)
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

# A new op is one line here.
add_library(memkern_cuda STATIC
    csrc/cuda/alignment.cu csrc/cuda/alignment_backward.cu csrc/cuda/class_sums.cu csrc/cuda/device.cu
    csrc/cuda/layer_stats.cu csrc/cuda/median_of_others.cu csrc/cuda/selectivity.cu csrc/cuda/unit_means.cu
    csrc/cuda/views.cu)
target_compile_options(memkern_cuda PRIVATE -O3 ${gencode})
string(REPLACE ";" ", " MEMKERN_CUDA_CODE "${MEMKERN_CUDA_CODE}")
