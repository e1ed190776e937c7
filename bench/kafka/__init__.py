"""The product on Kafka, measured on a real broker: `make bench-kafka`.

Everything runs as it is run in earnest, in processes of its own: workers, the coordinator with the HTTP surface,
the broker. This process appends, asks, and listens to what owners tell, as a process with a gateway does.
"""
