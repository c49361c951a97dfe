"""The report: a page of HTML about what came in, what is missing, and what needs a person.

| module | content |
|---|---|
| `facts` | everything that the page shows, from nine weeks of `series` and small tables |
| `small_cells` | pure: which numbers are withheld because they are about fewer than ten patients |
| `page` | pure: the facts as one file of HTML, without scripts and without the network |
"""
