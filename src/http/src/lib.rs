//! What every HTTP client of kiln shares: certificate roots, proxies, time limits.
