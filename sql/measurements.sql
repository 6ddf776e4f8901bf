-- The body measurements of each stay: the last plausible one of each kind up to discharge.
--
-- Grain:  one row per stay with any measurement
-- Key:    hadm_id
-- Inputs: admissions, readings
-- Known:  by the day of discharge
-- Source: MIMIC-IV v3.1, hosp.omr
--
-- omr is charted per patient and day, not per stay. Of several on the last day the highest seq_num counts,
-- as the release notes number them in order of entry; of equals the text that sorts last, so that the order
-- of rows never decides and both numbers of a pressure come from one reading. A weight charted after discharge belongs to no earlier stay.

SELECT
    admissions.hadm_id,
    arg_max(reading, (chartdate, seq_num, result_value)) FILTER (WHERE quantity = 'height_cm') AS height_cm,
    arg_max(reading, (chartdate, seq_num, result_value)) FILTER (WHERE quantity = 'weight_kg') AS weight_kg,
    arg_max(reading, (chartdate, seq_num, result_value)) FILTER (WHERE quantity = 'bmi') AS bmi,
    arg_max(reading, (chartdate, seq_num, result_value)) FILTER (WHERE quantity = 'systolic_mmhg') AS systolic_mmhg,
    arg_max(reading, (chartdate, seq_num, result_value)) FILTER (WHERE quantity = 'diastolic_mmhg') AS diastolic_mmhg
FROM admissions
INNER JOIN readings
    ON readings.subject_id = admissions.subject_id
    AND readings.chartdate <= CAST(admissions.dischtime AS DATE)
WHERE readings.plausible
GROUP BY admissions.hadm_id
