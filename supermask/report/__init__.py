"""Pictures of results, by matplotlib, which is imported when something is drawn."""
