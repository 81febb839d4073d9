//! The testbed: network namespaces with shaped links, a real registry, real engines; demo and benchmarks.
