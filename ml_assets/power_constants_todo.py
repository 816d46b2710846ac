"""Facts about the household power data set, until the group's own module has them."""

HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3"
)
COLUMNS = [
    "event_time",
    "active_power_kw",
    "reactive_power_kvar",
    "voltage_v",
    "current_a",
    "sub_metering_1_wh",
    "sub_metering_2_wh",
    "sub_metering_3_wh",
]
TIMEZONE = "Europe/Paris"

FILE_NAME = "household_power_consumption.txt"
ARCHIVE_NAME = "individual+household+electric+power+consumption.zip"
URL = f"https://archive.ics.uci.edu/static/public/235/{ARCHIVE_NAME}"
SHA256 = "4259c9d7ece5dbee9ab8d53682baac68d791c864f0f64a52b4043cb3b90894b7"

SAMPLE_NAME = "household_power.zip"
SAMPLE_SHA256 = "41d93407132bcab3c09ab76c5305ddc13fa8d2affe42f02fad1e2300f38f6ee1"
"""Of the text in the zip."""
SAMPLE_FIRST_DAY = "2008-01-07"
SAMPLE_WEEKS = 26

FIRST_DAY = "2006-12-18"
"""The first Monday of the full data set, which begins in the evening of 2006-12-16."""
WEEKS = 205
"""Whole weeks until Sunday 2010-11-21; the data set ends on 2010-11-26."""
