"""The only floor that imports mlflow: the store, the life of a run, what is logged, and the pages that show it.

Nothing here imports mlflow when it is itself imported: `--help` and wrong settings must not wait for it.
"""
