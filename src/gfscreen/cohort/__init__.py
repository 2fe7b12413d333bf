"""A cohort: very many series, screened by a pool of workers on one machine or a cluster. Needs the extra `cohort`.

    source   -> items, one series each                (sources)
    pool     -> every item to a worker, twice at most (pool: the only place that knows Ray)
    worker   -> mask, then its record, each by rename (case_worker, records)
    worklist -> one table and one page                (worklist)

What is finished is what the records say: whatever is killed, a repeated run goes on from them.
"""
