"""Sections of the report: each file binds `SECTION` to a `Section`, and has its template of the same name beside it."""
