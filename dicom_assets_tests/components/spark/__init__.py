"""Apache Spark, in an environment of its own that `components/install` makes."""
