"""Asset checks, by who reads them.

`service` is for the PACS administrator, `platform` for the data engineer. A check of a table runs
with every materialization of it; what reads many hours stands on the external asset of the service
and has a job and a schedule of its own (`automation`). What is compared, and how, is in `tables`.
"""
