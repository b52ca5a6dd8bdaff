"""The timeline page: one self-contained HTML file for a report, also live while a call lasts."""
