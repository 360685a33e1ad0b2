"""The family of encoders that ships with memkern, as `memkern lab family` wrote it; `memkern demo` audits it."""
