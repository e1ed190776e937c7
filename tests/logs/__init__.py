"""The embedded log with real processes: killed ones, second ones, ones whose owner died, full disks."""
