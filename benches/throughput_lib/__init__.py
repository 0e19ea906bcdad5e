"""Parts of benches/throughput: traffic files, the machine, testpmd, weir, the plan, the report."""
