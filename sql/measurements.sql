-- The body measurements of each stay: the last plausible one of each kind up to the day of the prediction.
--
-- Grain:  one row per stay with any measurement
-- Key:    hadm_id
-- Inputs: prediction_times, readings
-- Known:  by the day of predict_time
-- Source: MIMIC-IV v3.1, hosp.omr
--
-- omr is charted per patient and day, not per stay. Of several on the last day the highest seq_num counts,
-- as the release notes number them in order of entry; of equals the larger, so that the order of rows never
-- decides and both numbers of a pressure come from one reading. The age of a measurement is in days: 0 was
-- taken on the day of the prediction; since omr knows no hours, that day counts as a whole.
-- The largest of structs is the last: an as-of join by the clock would sort every patient's readings again.

WITH known AS (
    SELECT
        times.hadm_id,
        CAST(times.predict_time AS DATE) AS predict_day,
        readings.quantity,
        {'day': chartdate, 'seq_num': seq_num, 'reading': reading, 'second': second_reading} AS measured
    FROM prediction_times AS times
    INNER JOIN readings
        ON readings.subject_id = times.subject_id
        AND readings.chartdate <= CAST(times.predict_time AS DATE)
    WHERE readings.first_plausible AND readings.second_plausible
),

latest AS (
    SELECT
        hadm_id,
        any_value(predict_day) AS predict_day,
        max(measured) FILTER (WHERE quantity = 'height_cm') AS height,
        max(measured) FILTER (WHERE quantity = 'weight_kg') AS weight,
        max(measured) FILTER (WHERE quantity = 'bmi') AS bmi,
        max(measured) FILTER (WHERE quantity = 'systolic_mmhg') AS pressure
    FROM known
    GROUP BY hadm_id
)

SELECT
    hadm_id,
    height.reading AS height_cm,
    weight.reading AS weight_kg,
    bmi.reading AS bmi,
    pressure.reading AS systolic_mmhg,
    pressure.second AS diastolic_mmhg,
    predict_day - height.day AS height_age_days,
    predict_day - weight.day AS weight_age_days,
    predict_day - bmi.day AS bmi_age_days,
    predict_day - pressure.day AS blood_pressure_age_days
FROM latest
