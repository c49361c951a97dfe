"""Delta tables as this project uses them; the only room that imports deltalake.

- `snapshot`: one version of a table, which is read and committed on.
- `handles`: the engine's handles of tables, brought up to date.
- `commit`: a difference, the properties and columns of a table; `apply`: how it is written.
- `slices`: rows in data files before their commit; `join`: several data files as one.
- `study_files`: the data files in which a study has rows, a cache.
- `retry`: derive and commit again after another run has committed.
- `files`: data files rewritten; `join`: several in one, sorted; `slices`: rows that come in parts.
- `folder`: the files and the log as they lie in the storage.
- `foreign`: commits of other programs.
- `table_errors`: errors of the engine and the storage, raised as ours; `arrow`: tools for Arrow.
"""
