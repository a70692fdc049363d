// Functions that are also compiled for processors with AVX2 and FMA, chosen when the program runs.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define PADDLESEG_EXT_VECTORISED __attribute__((target_clones("arch=haswell", "default")))
#else
#define PADDLESEG_EXT_VECTORISED
#endif
