"""Delta tables as this project uses them; the only room that imports deltalake.

- `snapshot`: one version that is read, and one commit on top of it; `retry`: derive and commit
  again after another run has committed.
- `files`: data files written anew; `folder`: the files and the log as they lie in the storage.
- `arrow`: small tools for Arrow.
"""
