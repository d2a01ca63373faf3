// The options of jemalloc that every build has, wherever it is built. _RJEM_MALLOC_CONF in the environment overrides them.
// Huge pages: a cache is larger than what the processor's TLB covers with small pages. Without cache_oblivious, a large
// block begins at the start of a page: a body of 16 KiB takes 16 KiB instead of 20. What is freed goes back to the system
// within a second, and blocks of half a MiB at once: large bodies come and go, and the memory limit counts both.
const char *_rjem_malloc_conf = "thp:always,cache_oblivious:false,oversize_threshold:524288,dirty_decay_ms:1000";
